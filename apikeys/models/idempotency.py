"""Requests that may be sent twice: the row that a request creates has its idempotency key, for 30 days."""

from __future__ import annotations

from datetime import timedelta
from typing import Self, TypeVar

from django.db import models
from django.utils import timezone

RETENTION = timedelta(days=30)  # a repeated request is recognized for this time after the first one

M = TypeVar("M", bound=models.Model)


class IdempotencyKeyReused(Exception):
    """An earlier, different request used this idempotency key."""

    def __init__(self) -> None:
        super().__init__(
            "This Idempotency-Key was used before with a different body. Send a new Idempotency-Key with this request."
        )


class IdempotentQuerySet(models.QuerySet[M]):
    """Base class for rows with an `idempotency_key`, a `request_digest` and a `created_at`."""

    def created_by_request(self, idempotency_key: str | None, request_digest: str) -> M | None:
        """Return the row that an earlier request with this idempotency key created, or None.

        Raise `IdempotencyKeyReused` if that request had another digest.
        """
        if idempotency_key is None:
            return None
        row = self.filter(idempotency_key=idempotency_key).first()
        if row is not None and row.request_digest != request_digest:  # type: ignore[attr-defined]  # see above
            raise IdempotencyKeyReused
        return row

    def with_old_idempotency_key(self) -> Self:
        """Return rows with an idempotency key that is no longer needed."""
        return self.filter(idempotency_key__isnull=False, created_at__lte=timezone.now() - RETENTION)

    def clear_idempotency_keys(self) -> int:
        """Forget which requests created these rows, and return how many there are."""
        return self.update(idempotency_key=None, request_digest="")
