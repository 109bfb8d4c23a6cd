"""The quota: two sliding windows, checked and recorded atomically, by the database's clock.

A subject (a workspace or a person) has one row in the table `workspaces_quota`: the times of its admitted requests,
newest first, in microseconds since the Unix epoch, and, for large limits, their number in slots of time. See
docs/architecture.md.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import orjson
from django.db import connection, transaction
from django.db.models import Max

from core.db import contention
from core.db.batches import BATCH_SIZE
from core.db.statements import fetch
from core.metrics import count_quota_rejection
from workspaces.models import Action, Actor, AuditEvent, Tier, User, Workspace
from workspaces.quota import sql
from workspaces.quota.rows import Row, max_admissions
from workspaces.quota.slots import usage_at
from workspaces.quota.windows import (
    MAX_EXACT,
    SECOND,
    Decision,
    Limit,
    Limits,
    Status,
    Usage,
    Window,
    has_slots,
    limits_of,
    low,
    usage_of,
    window_at,
)

__all__ = [
    "MAX_EXACT",
    "SECOND",
    "Decision",
    "Limit",
    "Row",
    "Status",
    "Usage",
    "Window",
    "admit",
    "admitted",
    "clear",
    "delete_idle",
    "has_slots",
    "limits_of",
    "low",
    "read",
    "rejected",
    "resource",
    "sql",
    "status",
    "status_at",
    "status_of",
    "usage_at",
    "usage_of",
    "write",
]

IDLE_SECONDS = 24 * 3600  # a row without an admission for this time, and for the longest window, is deleted


def resource(subject: str) -> str:
    """Return the name of the quota's row for `core.db.contention`."""
    return f"the quota of {subject}"


def admit(subject: str, tier: Tier) -> Decision:
    """Record a request of `subject` if both limits admit it, and return the decision. Rejected ones don't count."""
    main, burst = limits = limits_of(tier)
    if not has_slots(tier):
        contention.about_to_lock(resource(subject))
        params = {
            "subject": subject,
            "max_admissions": max_admissions(limits),
            "requests": main.requests,
            "window": main.window,
            "burst_requests": burst.requests,
            "burst_window": burst.window,
        }
        if rows := fetch(sql.ADMIT[connection.vendor], params):
            admissions = _decoded(rows[0][0])
            now = admissions[0]
            return admitted(tier, [usage_of(admissions, now, limit) for limit in limits], now)
    row, now = read(subject)
    if row.is_current(limits, now):
        full = status_at(tier, row.usages(limits, now), now)
        if full.retry_after:
            return rejected(tier, full)
    return _admit_locked(subject, tier)


def _admit_locked(subject: str, tier: Tier) -> Decision:
    """Decide as `admit` does, with the row locked, and convert the row if it is not current."""
    limits = limits_of(tier)
    contention.about_to_lock(resource(subject))
    with transaction.atomic():
        fetch(sql.LOCK, {"subject": subject, "none": _encoded([])})
        stored, now = read(subject)
        row = _current(stored, limits, now)
        full = status_at(tier, row.usages(limits, now), now)
        if not full.retry_after:
            row = row.recorded(limits, now)
        if row != stored:
            write(subject, row)
    return rejected(tier, full) if full.retry_after else admitted(tier, row.usages(limits, now), now)


def admitted(tier: Tier, usages: Sequence[Usage], now: int) -> Decision:
    """Return the decision on a request that was admitted at `now` and counts in `usages`."""
    return Decision(True, 0, status_at(tier, usages, now))


def rejected(tier: Tier, status: Status) -> Decision:
    """Return the decision on a rejected request, and count the rejection in the metrics."""
    count_quota_rejection(tier.name)
    return Decision(False, status.retry_after, status)


def status_at(tier: Tier, usages: Sequence[Usage], now: int) -> Status:
    """Return the state of a quota at `now`, from the usage of the main limit and of the burst limit."""
    windows = (window_at(usage, now, limit) for usage, limit in zip(usages, limits_of(tier), strict=True))
    return Status(tier.name, tuple(windows))


def status(subject: str, tier: Tier) -> Status:
    """Return the state of the quota without counting a request."""
    row, now = read(subject)
    limits = limits_of(tier)
    return status_at(tier, _current(row, limits, now).usages(limits, now), now)


def status_of(holder: Workspace | User) -> Status:
    """Return the state of a workspace's quota, or of the one that a person's OAuth tokens use."""
    return status(holder.pk, holder.tier if isinstance(holder, Workspace) else Tier.objects.of_people())


@transaction.atomic
def clear(holder: Workspace | User, *, by: Actor) -> None:
    """Delete the admissions of a workspace or a person, so that the full quota is available. Raise `NotAllowed`."""
    by.require_operator()
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM workspaces_quota WHERE subject = %s", [holder.pk])
    if isinstance(holder, Workspace):
        holder.record(Action.WORKSPACE_QUOTA_CLEARED, by)
    else:
        AuditEvent.objects.record(Action.USER_QUOTA_CLEARED, by, subject=holder.pk)


def delete_idle() -> Iterator[int]:
    """Delete the rows of subjects without requests in any window, and yield their number after each batch.

    See `core.db.batches.in_batches`. An admission that is recorded meanwhile keeps its row.
    """
    longest_window = Tier.objects.aggregate(longest=Max("seconds"))["longest"] or 0
    idle = max(IDLE_SECONDS, longest_window) * SECOND
    after = ""
    while rows := fetch(sql.SUBJECTS, {"after": after, "limit": BATCH_SIZE}):
        first, after = rows[0][0], rows[-1][0]
        yield len(fetch(sql.DELETE_IDLE[connection.vendor], {"first": first, "last": after, "idle": idle}))


def read(subject: str) -> tuple[Row, int]:
    """Return the row of `subject`, empty if it has none, and the database's time, in microseconds."""
    now, admissions, *slots = fetch(sql.READ[connection.vendor], {"subject": subject})[0]
    return Row(_decoded(admissions) or [], *map(_decoded, slots)), now


def _current(row: Row, limits: Limits, now: int) -> Row:
    return row if row.is_current(limits, now) else row.converted(limits, now)


def write(subject: str, row: Row) -> None:
    """Replace the row of `subject`, which must be locked."""
    fetch(sql.WRITE, {"subject": subject} | {name: _encoded(value) for name, value in row._asdict().items()})


def _decoded(column: str | list[int] | None) -> Any:
    """Return the numbers in a column: JSON on SQLite, an array on PostgreSQL."""
    return orjson.loads(column) if isinstance(column, str) else column


def _encoded(numbers: Sequence[int] | None) -> Any:
    """Return the value of a column with these numbers."""
    return orjson.dumps(numbers).decode() if numbers is not None and connection.vendor == "sqlite" else numbers
