"""Keep requests that wait for a stuck lock of the database from occupying every thread of this process.

A request calls `about_to_lock` or `about_to_read` before a statement that may wait for a lock. If that wait reaches
its time limit, the resource is blocked: few requests at a time try to lock blocked resources, and the others fail
immediately with `Blocked`, which is a 503, until one succeeds. See "Stuck locks" in docs/architecture.md.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

import psycopg
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, OperationalError, connections

logger = logging.getLogger("onehorizon.database")

DATABASE = "the database"  # the only resource on SQLite, which has one lock for all writes

MAX_TRYING = max(settings.SERVER_THREADS // 2, 1)  # threads that try to lock blocked resources
BLOCKED_SECONDS = 10  # after the last timeout, if no request tries the resource again


class Blocked(OperationalError):
    """The resource is still locked after a request waited for it too long, and other requests try it again."""


class _Request:
    """The locks of one request."""

    resource: str | None = None  # what it has locked last, or is waiting for
    is_trying = False  # whether it tries to lock a blocked resource
    has_failed = False  # whether it has waited too long for a resource, or failed without waiting


class _Block:
    """A blocked resource."""

    until = 0.0  # when it ends, by `monotonic()`, unless a request is trying
    trying: _Request | None = None


_thread = threading.local()
_mutex = threading.Lock()  # for the blocks; `about_to_lock` looks into an empty dictionary without it
_blocks: dict[str, _Block] = {}


@contextmanager
def request() -> Iterator[None]:
    """Run one request in this thread. Outside this block, as in commands, nothing is ever blocked."""
    current = _thread.request = _Request()
    try:
        yield
    finally:
        _thread.request = None
        if current.is_trying:
            _stop_trying(current)


def about_to_lock(resource: str) -> None:
    """Declare that the next statements may wait for a lock of `resource`. Raise `Blocked` if they should not be run.

    Call it only if one of the statements will be run in any case: a request that succeeds unblocks the resource.
    """
    current: _Request | None = getattr(_thread, "request", None)
    if current is None:
        return
    if connections[DEFAULT_DB_ALIAS].vendor == "sqlite":
        resource = DATABASE
    current.resource = resource
    if resource in _blocks:
        _start_trying(current, resource)


def about_to_read(what: str) -> None:
    """Declare that the next statements read the tables of `what`. See `about_to_lock`.

    On PostgreSQL they wait only for a lock on a whole table, and on SQLite for none.
    """
    if connections[DEFAULT_DB_ALIAS].vendor != "sqlite":
        about_to_lock(f"a table of {what}")


def row(pk: str) -> str:
    """Return the resource that is the row with this id, which identifies its table too."""
    return f"the row {pk}"


def count_blocked() -> int:
    """Return how many resources are blocked."""
    if _blocks:
        with _mutex:
            for resource, blocked in list(_blocks.items()):
                if blocked.trying is None and blocked.until < monotonic():
                    del _blocks[resource]
    return len(_blocks)


def is_lock_timeout(error: OperationalError) -> bool:
    """Return whether PostgreSQL canceled a statement because it waited too long for a lock."""
    return isinstance(error.__cause__, psycopg.errors.LockNotAvailable)


def report_timeout(resource: str | None = None) -> None:
    """Block a resource, by default the one that this thread's request was about to lock. The backends call it."""
    current: _Request | None = getattr(_thread, "request", None)
    if current is None:
        return
    current.has_failed = True
    if resource := resource or current.resource:
        block(resource)


def block(resource: str) -> None:
    """Block a resource for which a request has waited too long."""
    with _mutex:
        is_new = resource not in _blocks
        _blocks.setdefault(resource, _Block()).until = monotonic() + BLOCKED_SECONDS
    if is_new:
        logger.warning("%s was locked for too long: other requests for it fail until one succeeds", resource)


def _start_trying(current: _Request, resource: str) -> None:
    with _mutex:
        if (blocked := _blocks.get(resource)) is None:
            return
        others = {other.trying for other in _blocks.values()} - {None, current}
        if current.has_failed or blocked.trying in others or len(others) >= MAX_TRYING:
            current.has_failed = True
            raise Blocked(f"{resource} has been locked for too long")
        blocked.trying = current
        current.is_trying = True


def _stop_trying(current: _Request) -> None:
    """Unblock every resource if the request succeeded: often one transaction has blocked all of them, and has ended."""
    with _mutex:
        if not current.has_failed:
            _blocks.clear()
        for blocked in _blocks.values():
            if blocked.trying is current:
                blocked.trying = None
