"""Log lines that can't carry a credential, whoever logged it and however it got there."""

import logging
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import orjson
from django.http import HttpRequest

# A key, whole or cut: its id stays, since that is what one looks for in a log. Then whatever follows the
# name of a header that carries credentials, in the shapes that headers are printed in.
_KEY = re.compile(r"(one_[0-9A-Za-z]{12}_)[0-9A-Za-z]+")
_HEADER = re.compile(
    r"""((?:authorization|cookie)['"\\]*\s*[:=,]\s*(?:b?['"\\]+)?)[^'"\\\r\n]+""",
    re.IGNORECASE,
)
_BEARER = re.compile(r"\b(bearer\s+)(?!one_[0-9A-Za-z]{12}_…|realm=)[\w.~+/=-]+", re.IGNORECASE)
# A cookie of a session that stands alone, or behind another one's quotes.
_SESSION = re.compile(
    r"""((?:sessionid|csrftoken)['"\\]*\s*[:=,]\s*(?:b?['"\\]+)?)[^\s;,'"\\]+""",
    re.IGNORECASE,
)
_CREDENTIAL_NAME = re.compile(r"authorization|cookie|sessionid|csrftoken", re.IGNORECASE)
# PostgreSQL's errors quote the row or the statement that failed.
_HASH = re.compile(r"(\$argon2[a-z]*\$)[\w$=,+/.]+")
# Without any of these there is nothing to look for, and nearly every text is without.
_MARKS = ("one_", "$argon2", "authorization", "cookie", "sessionid", "csrftoken", "bearer")


def redact(text: str) -> str:
    """`text` with API keys cut to their ids, and the values of credential headers and Argon2 hashes taken out."""
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


# What every record has; the rest is from `extra`.
_OF_RECORDS = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class LineFormatter(logging.Formatter):
    """One readable line, for a person at a terminal, with the plain fields of `extra`."""

    IN_MESSAGES = ("method", "path")

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802, logging's name
        fields = "".join(
            f" {name}={_on_one_line(value)}"
            for name, value in record.__dict__.items()
            if name not in _OF_RECORDS and name not in self.IN_MESSAGES and isinstance(value, str | int | float)
        )
        return super().formatMessage(record) + fields


def _on_one_line(value: str | float) -> str:
    return str(value).encode("unicode_escape").decode()


class JsonFormatter(logging.Formatter):
    """One JSON object a line, with the fields of `extra`, for a log collector."""

    def format(self, record: logging.LogRecord) -> str:
        """Redacts value by value: in the finished line a redaction could swallow JSON's own punctuation."""
        line: dict[str, Any] = {
            "time": self.formatTime(record),
            "levelname": record.levelname,
            "name": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name, value in record.__dict__.items() if name not in _OF_RECORDS}
        if record.exc_info:
            line["exc_info"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack_info"] = self.formatStack(record.stack_info)
        return orjson.dumps({_name(name): _cleaned(value, name) for name, value in line.items()}).decode()


def _cleaned(value: Any, name: object = "") -> Any:
    """`value`, found under `name`, as what JSON can hold, redacted."""
    match value:
        case str():
            return "[redacted]" if _names_a_credential(name) else _text(value)
        case None | bool() | float():
            return value
        case int() if value.bit_length() < 64:
            return value
        case _ if _names_a_credential(name):
            return "[redacted]"
        case Mapping():
            return {_text(key): _cleaned(item, key) for key, item in value.items()}
        case [str() | bytes() as key, item]:  # a header, as servers hold them
            return [_text(key), _cleaned(item, key)]
        case list() | tuple():
            return [_cleaned(item) for item in value]
        case HttpRequest():  # Django logs it with a 5xx; its own text has the query string
            return _text(f"{value.method} {value.path}")
    return _text(value)


def _text(value: object) -> str:
    text = str(value)
    return redact(text if text.isascii() else text.encode("utf-8", "backslashreplace").decode())


_name = lru_cache(maxsize=1024)(_text)  # of a field: there are few, and each is in every line


@lru_cache(maxsize=1024)
def _names_a_credential(name: object) -> bool:
    return _CREDENTIAL_NAME.search(str(name)) is not None
