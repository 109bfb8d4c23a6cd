"""Log lines: the fields of the current request in each, and formatters that redact credentials.

Both apply to every line, including those that libraries log.
"""

import logging
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

import orjson
from django.http import HttpRequest

# An API key, complete or truncated. The key id is kept, so that logs can be searched for it. A key that was broken into
# parts has other characters between them.
_KEY = re.compile(r"(one_[0-9A-Za-z]{12}_)(?:[^0-9A-Za-z…]{0,3}[0-9A-Za-z]){1,49}", re.IGNORECASE)
# A part of a key without its beginning: a key id and some of the secret, or most of the secret. `_redact_part` decides.
_PART_OF_KEY = re.compile(r"(?<![0-9A-Za-z])(?:([0-9A-Za-z]{,12}_)[0-9A-Za-z]{16,}|[0-9A-Za-z]{30,})")
_LONG_WORD = re.compile(r"\b\w{17}", re.ASCII)  # matches almost no text, and is faster than `_PART_OF_KEY`
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
# Fast path: a text without any of these contains no credential except perhaps a part of a key.
_MARKS = ("one_", "$argon2", "authorization", "cookie", "sessionid", "csrftoken", "bearer")
MAX_DECODINGS = 16  # of a percent-encoded line; what is encoded more often is redacted


def redact(text: str) -> str:
    """Return `text` with API keys cut to their ids, and without the values of credential headers and Argon2 hashes.

    A part of a key is redacted too, and so is a credential that is percent-encoded, however often. A line that has one
    is decoded.
    """
    if "%" in text:
        text = "\n".join(map(_redact_encoded, text.split("\n")))
    lower = text.lower()
    for mark in _MARKS:
        if mark in lower:
            text = _KEY.sub(r"\1…", text)
            text = _HASH.sub(r"\1…", text)
            text = _HEADER.sub(r"\1[redacted]", text)
            text = _SESSION.sub(r"\1[redacted]", text)
            text = _BEARER.sub(r"\1[redacted]", text)
            break
    if text != lower and _LONG_WORD.search(text):
        text = _PART_OF_KEY.sub(_redact_part, text)
    return text


def _redact_encoded(line: str) -> str:
    """Return a line with percent-encoded credentials decoded and redacted, and any other line unchanged."""
    decoded = line
    for _ in range(MAX_DECODINGS):
        encoded, decoded = decoded, unquote(decoded)
        if decoded == encoded:
            break
    else:
        return "[redacted]"
    if decoded == line or (redacted := redact(decoded)) == decoded:
        return line
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in redacted)


def _redact_part(match: re.Match[str]) -> str:
    """Redact a match that looks random: identifiers and hexadecimal digits don't have digits and letters of both cases.

    Most secrets have them. A match as long as a whole secret needs no digit, since nothing else is that long.
    """
    text = match[0]
    is_mixed = any(map(str.islower, text)) and any(map(str.isupper, text))
    if is_mixed and (len(text) >= 43 or any(map(str.isdigit, text))):
        return f"{match[1] or ''}…"
    return text


# ---- the current request ----

_request_fields: ContextVar[dict[str, Any] | None] = ContextVar("request_fields", default=None)


@contextmanager
def request_fields(**fields: Any) -> Iterator[dict[str, Any]]:
    """Add these fields, and those that `bind` adds, to every line that is logged in the block. Yield all of them."""
    token = _request_fields.set(fields)
    try:
        yield fields
    finally:
        _request_fields.reset(token)  # the server's threads are reused


def bind(**fields: Any) -> None:
    """Add fields to the further lines of the current request. Without a request, do nothing."""
    if (current := _request_fields.get()) is not None:
        current.update(fields)


class RequestFieldsFilter(logging.Filter):
    """A filter for handlers: adds the fields of the current request. A field of the record itself takes precedence."""

    def filter(self, record: logging.LogRecord) -> bool:
        for name, value in (_request_fields.get() or {}).items():
            record.__dict__.setdefault(name, value)
        return True


class WithoutTracebackFilter(logging.Filter):
    """A filter for loggers whose exceptions are explained by their message."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.exc_info = None
        return True


# ---- formatters ----

# The attributes of every log record. All others come from `extra`.
_RECORD_ATTRIBUTES = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class UtcFormatter(logging.Formatter):
    """Formats times as in RFC 3339, in UTC with milliseconds."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"


class LineFormatter(UtcFormatter):
    """Formats a record as one line for a terminal, with the text and number fields of `extra`."""

    IN_MESSAGE = ("method", "path")  # fields that the message contains already

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802, logging's name
        record.message = redact(record.message)  # before the fields are added: no match may reach into them
        fields = "".join(
            f" {name}={_on_one_line(value)}"
            for name, value in record.__dict__.items()
            if name not in _RECORD_ATTRIBUTES and name not in self.IN_MESSAGE and isinstance(value, str | int | float)
        )
        return super().formatMessage(record) + fields


def _on_one_line(value: str | float) -> str:
    return redact(str(value).encode("unicode_escape").decode())


class JsonFormatter(UtcFormatter):
    """Formats a record as one JSON object on one line, with the fields of `extra`, for a log collector."""

    def format(self, record: logging.LogRecord) -> str:
        """Redact each value before encoding: a redaction in the finished line could remove JSON's punctuation."""
        line: dict[str, Any] = {
            "time": self.formatTime(record),
            "levelname": record.levelname,
            "name": _repeated_text(record.name),
            "message": _text(record.getMessage()),
        }
        for name, value in record.__dict__.items():
            if name not in _RECORD_ATTRIBUTES:
                is_pattern = name == "route" and isinstance(value, str)
                line[_repeated_text(name)] = _repeated_text(value) if is_pattern else _redacted(value, name)
        if record.exc_info:
            line["exc_info"] = _text(self.formatException(record.exc_info))
        if record.stack_info:
            line["stack_info"] = _text(self.formatStack(record.stack_info))
        return orjson.dumps(line).decode()


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


_repeated_text = lru_cache(maxsize=1024)(_text)  # cached: the same few names and URL patterns are in every line


@lru_cache(maxsize=1024)
def _is_credential_name(name: object) -> bool:
    return _CREDENTIAL_NAME.search(str(name)) is not None
