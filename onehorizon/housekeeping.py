"""Housekeeping: delete or archive what has expired, so that no table grows without bound.

A part is a function that yields the number of rows after each short step, such as a transaction. It can be interrupted
after any step, repeated, and run twice at the same time. Append new parts to `PARTS`.
"""

import time
from collections.abc import Callable, Iterable

from django.contrib.sessions.models import Session
from django.utils import timezone

from apikeys.models import ApiKey, ApiKeyQuerySet, StoredSecret, StoredSecretQuerySet
from apikeys.models.usage import delete_old_usage
from core.db.batches import delete_in_batches, in_batches
from oauth import expiry
from workspaces import quota
from workspaces.audit_archive import archive_events

MAX_PAUSE = 1.0  # seconds


def sessions() -> Iterable[int]:
    return delete_in_batches(Session.objects.filter(expire_date__lte=timezone.now()))


def idempotency_keys() -> Iterable[int]:
    yield from in_batches(ApiKey.objects.with_old_idempotency_key(), ApiKeyQuerySet.clear_idempotency_keys)
    secrets = StoredSecret.objects.with_old_idempotency_key()
    yield from in_batches(secrets, StoredSecretQuerySet.clear_idempotency_keys)


# By the name that the command prints. Refresh tokens come first, because they keep access tokens and token families.
PARTS: dict[str, Callable[[], Iterable[int]]] = {
    "refresh_tokens": lambda: delete_in_batches(expiry.refresh_tokens()),
    "access_tokens": lambda: delete_in_batches(expiry.access_tokens()),
    "token_families": lambda: delete_in_batches(expiry.token_families()),
    "authorization_codes": lambda: delete_in_batches(expiry.authorization_codes()),
    "device_grants": lambda: delete_in_batches(expiry.device_grants()),
    "sessions": sessions,
    "idempotency_keys": idempotency_keys,
    "quotas": quota.delete_idle,
    "usage": delete_old_usage,
    "audit_events": archive_events,
}


def run_part(part: Callable[[], Iterable[int]]) -> int:
    """Run all steps of the part and return the number of rows.

    Each step is followed by a pause as long as the step. Otherwise the next step would take SQLite's write lock again
    before a waiting request does.
    """
    rows = 0
    started = time.monotonic()
    for step_rows in part():
        rows += step_rows
        time.sleep(min(time.monotonic() - started, MAX_PAUSE))
        started = time.monotonic()
    return rows
