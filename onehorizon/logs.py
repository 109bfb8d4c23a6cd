"""Log lines that can't carry a credential, whoever logged it and however it got there."""

import logging
import re
from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest
from pythonjsonlogger.orjson import OrjsonFormatter

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


def redact(text: str) -> str:
    """`text` with API keys cut to their ids, and the values of credential headers and Argon2 hashes taken out."""
    text = _KEY.sub(r"\1…", text)
    text = _HASH.sub(r"\1…", text)
    text = _HEADER.sub(r"\1[redacted]", text)
    text = _SESSION.sub(r"\1[redacted]", text)
    return _BEARER.sub(r"\1[redacted]", text)


class LineFormatter(logging.Formatter):
    """One readable line, for a person at a terminal."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


class JsonFormatter(OrjsonFormatter):
    """One JSON object a line, with the fields of `extra`, for a log collector."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s", rename_fields={"asctime": "time"})

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        """Redacts value by value: in the finished line a redaction could swallow JSON's own punctuation."""
        return {_text(name): _cleaned(value, name) for name, value in log_data.items()}


def _cleaned(value: Any, name: object = "") -> Any:
    """`value`, found under `name`, as what JSON can hold, redacted."""
    match value:
        case None | bool() | float():
            return value
        case int() if value.bit_length() < 64:
            return value
        case _ if _CREDENTIAL_NAME.search(str(name)):
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
    return redact(str(value).encode("utf-8", "backslashreplace").decode())
