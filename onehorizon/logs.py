"""Log lines that can't carry a credential, whoever logged it and however it got there."""

import logging
import re

from pythonjsonlogger.orjson import OrjsonFormatter

# A key, whole or cut: its id stays, since that is what one looks for in a log. Then whatever follows the
# name of a header that carries credentials, in the shapes that headers are printed in.
_KEY = re.compile(r"(one_[0-9A-Za-z]{12}_)[0-9A-Za-z]+")
_HEADER = re.compile(
    r"""((?:authorization|cookie)['"\\]*\s*[:=,]\s*(?:b?['"\\]+)?)[^'"\\\r\n]+""",
    re.IGNORECASE,
)
_BEARER = re.compile(r"\b(bearer\s+)(?!one_[0-9A-Za-z]{12}_…|realm=)[\w.~+/=-]+", re.IGNORECASE)


def redact(text: str) -> str:
    """`text` with API keys cut to their ids, and the values of credential headers taken out."""
    text = _KEY.sub(r"\1…", text)
    text = _HEADER.sub(r"\1[redacted]", text)
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

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))
