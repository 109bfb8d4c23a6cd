"""Ids with a prefix for their kind, in order of creation: `tsk_01m2x7…`.

A prefix, then a ULID (48 bits of milliseconds, 80 random bits) in lower-case Crockford base32: 26 characters with the
same order in every database's collation. Within a process, each id is greater than the previous one.
"""

import re
import secrets
import threading
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar, cast

from django.db import models

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_LENGTH = 26
_PATTERN = re.compile(f"[{_ALPHABET}]{{{_LENGTH}}}")

M = TypeVar("M", bound=models.Model)

_lock = threading.Lock()
_last = 0


def new_id(prefix: str) -> str:
    """Return a new id. Thread-safe."""
    global _last
    with _lock:
        _last = max((time.time_ns() // 1_000_000) << 80 | secrets.randbits(80), _last + 1)
        value = _last
    return _format(prefix, value)


def first_id(prefix: str, moment: datetime, offset: timedelta) -> str:
    """Return the smallest id that can be created at `moment + offset`, which may be after the year 9999."""
    since_epoch = moment - datetime(1970, 1, 1, tzinfo=UTC) + offset
    return _format(prefix, max(since_epoch // timedelta(milliseconds=1), 0) << 80)


def _format(prefix: str, value: int) -> str:
    return f"{prefix}_" + "".join(_ALPHABET[value >> shift & 31] for shift in range(125, -1, -5))


def is_id(prefix: str, text: str) -> bool:
    """Return whether `text` has the format of an id. If not, no query is needed."""
    return text.startswith(f"{prefix}_") and _PATTERN.fullmatch(text, len(prefix) + 1) is not None


def id_pattern(prefix: str) -> str:
    """Return a regular expression (ECMA-262) for the ids with this prefix, without anchors."""
    return f"{prefix}_{_PATTERN.pattern}"


class IdField(models.CharField[str, str]):
    """A primary key with an id of `new_id` as its default."""

    def __init__(self, prefix: str, **kwargs: Any) -> None:
        self.prefix = prefix
        kwargs |= {
            "primary_key": True,
            "max_length": len(prefix) + 1 + _LENGTH,
            "default": partial(new_id, prefix),
            "editable": False,
        }
        super().__init__(**kwargs)

    def deconstruct(self) -> tuple[str, str, list[Any], dict[str, Any]]:
        name, path, _, kwargs = super().deconstruct()
        for derived in ("primary_key", "max_length", "default", "editable"):
            del kwargs[derived]
        return name, path, [self.prefix], kwargs


def get_by_id(queryset: models.QuerySet[M], text: str) -> M:
    """Return the row with this id. Raise the model's `DoesNotExist`, without a query if `text` is malformed."""
    id_field = cast(IdField, queryset.model._meta.pk)
    return (queryset if is_id(id_field.prefix, text) else queryset.none()).get(pk=text)
