"""Log formatters that redact credentials in every line, including those that libraries log."""

import logging
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import orjson
from django.http import HttpRequest

# An API key, complete or truncated. The key id is kept, so that logs can be searched for it.
_KEY = re.compile(r"(one_[0-9A-Za-z]{12}_)[0-9A-Za-z]+")
# The value of a header that contains credentials, in the notations that headers are printed in.
_HEADER = re.compile(
    r"""((?:authorization|cookie)['"\\]*\s*[:=,]\s*(?:b?['"\\]+)?)[^'"\\\r\n]+""",
    re.IGNORECASE,
)
_BEARER = re.compile(r"\b(bearer\s+)(?!one_[0-9A-Za-z]{12}_…|realm=)[\w.~+/=-]+", re.IGNORECASE)
# A session or CSRF cookie without its header's name, or after another cookie's quotes.
_SESSION = re.compile(
    r"""((?:sessionid|csrftoken)['"\\]*\s*[:=,]\s*(?:b?['"\\]+)?)[^\s;,'"\\]+""",
    re.IGNORECASE,
)
_CREDENTIAL_NAME = re.compile(r"authorization|cookie|sessionid|csrftoken", re.IGNORECASE)
# PostgreSQL's errors quote the row or the statement that failed.
_HASH = re.compile(r"(\$argon2[a-z]*\$)[\w$=,+/.]+")
# Fast path: a text without any of these contains no credential. Almost no text contains one.
_MARKS = ("one_", "$argon2", "authorization", "cookie", "sessionid", "csrftoken", "bearer")


def redact(text: str) -> str:
    """Return `text` with API keys cut to their ids, and without the values of credential headers and Argon2 hashes."""
    lower = text.lower()
    for mark in _MARKS:
        if mark in lower:
            break
    else:
        return text
    text = _KEY.sub(r"\1…", text)
    text = _HASH.sub(r"\1…", text)
    text = _HEADER.sub(r"\1[redacted]", text)
    text = _SESSION.sub(r"\1[redacted]", text)
    return _BEARER.sub(r"\1[redacted]", text)


# The attributes of every log record. All others come from `extra`.
_RECORD_ATTRIBUTES = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class LineFormatter(logging.Formatter):
    """Formats a record as one line for a terminal, with the text and number fields of `extra`."""

    IN_MESSAGE = ("method", "path")  # fields that the message contains already

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802, logging's name
        fields = "".join(
            f" {name}={_on_one_line(value)}"
            for name, value in record.__dict__.items()
            if name not in _RECORD_ATTRIBUTES and name not in self.IN_MESSAGE and isinstance(value, str | int | float)
        )
        return super().formatMessage(record) + fields


def _on_one_line(value: str | float) -> str:
    return str(value).encode("unicode_escape").decode()


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object on one line, with the fields of `extra`, for a log collector."""

    def format(self, record: logging.LogRecord) -> str:
        """Redact each value before encoding: a redaction in the finished line could remove JSON's punctuation."""
        line: dict[str, Any] = {
            "time": self.formatTime(record),
            "levelname": record.levelname,
            "name": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name, value in record.__dict__.items() if name not in _RECORD_ATTRIBUTES}
        if record.exc_info:
            line["exc_info"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack_info"] = self.formatStack(record.stack_info)
        return orjson.dumps({_field_name(name): _redacted(value, name) for name, value in line.items()}).decode()


def _redacted(value: Any, name: object = "") -> Any:
    """Return the value of the field `name` as a redacted value that JSON can represent."""
    match value:
        case str():
            return "[redacted]" if _is_credential_name(name) else _text(value)
        case None | bool() | float():
            return value
        case int() if value.bit_length() < 64:
            return value
        case _ if _is_credential_name(name):
            return "[redacted]"
        case Mapping():
            return {_text(key): _redacted(item, key) for key, item in value.items()}
        case [str() | bytes() as key, item]:  # a header as a (name, value) pair
            return [_text(key), _redacted(item, key)]
        case list() | tuple():
            return [_redacted(item) for item in value]
        case HttpRequest():  # Django adds it to the record of a 5xx; its str() contains the query string
            return _text(f"{value.method} {value.path}")
    return _text(value)


def _text(value: object) -> str:
    text = str(value)
    return redact(text if text.isascii() else text.encode("utf-8", "backslashreplace").decode())


_field_name = lru_cache(maxsize=1024)(_text)  # cached: the same few names are in every line


@lru_cache(maxsize=1024)
def _is_credential_name(name: object) -> bool:
    return _CREDENTIAL_NAME.search(str(name)) is not None
