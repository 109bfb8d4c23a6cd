"""Change or delete many rows without holding up requests."""

from collections.abc import Callable, Iterator
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

BATCH_SIZE = 500  # rows of the table; one transaction changes at most as many


def in_batches(rows: QuerySet[Any], change: Callable[[Any], int]) -> Iterator[int]:
    """Call `change` with a queryset for each batch of `rows`, and yield the number that it returns.

    Reads the table once, in the order of its primary key, so it needs no index for the conditions of `rows`. Each batch
    is a transaction of its own. It skips rows that others have locked, so it waits for nobody, and several processes
    can do this at the same time. An interrupted run loses at most one batch.
    """
    table = rows.model._default_manager.order_by("pk").values_list("pk", flat=True)
    batch = table[:BATCH_SIZE]
    while pks := list(batch):
        yield _change(rows.filter(pk__range=(pks[0], pks[-1])), change)
        batch = table.filter(pk__gt=pks[-1])[:BATCH_SIZE]


def delete_in_batches(rows: QuerySet[Any]) -> Iterator[int]:
    """Delete all `rows`. See `in_batches`."""
    return in_batches(rows, lambda locked: locked.delete()[0])


def _change(rows: QuerySet[Any], change: Callable[[Any], int]) -> int:
    if not rows.exists():  # before the transaction, which takes SQLite's write lock
        return 0
    with transaction.atomic():
        locked = rows.only("pk").select_for_update(skip_locked=True, of=("self",))
        return change(rows.model._default_manager.filter(pk__in=[row.pk for row in locked]))
