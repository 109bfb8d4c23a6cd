"""Why the database could not serve a request: one of a few causes, for logs and metrics."""

import psycopg_pool

from core.db.contention import Blocked

UNAVAILABLE, POOL_EXHAUSTED, BLOCKED, OTHER = "unavailable", "pool_exhausted", "blocked", "other"

# By PostgreSQL's error code, or by its class: the first two characters.
# See https://www.postgresql.org/docs/current/errcodes-appendix.html.
_SQLSTATES = {
    "08": UNAVAILABLE,  # the connection was lost
    "25006": "read_only",
    "25P03": "idle_in_transaction_timeout",
    "40P01": "deadlock",
    "53100": "disk_full",
    "53200": "out_of_memory",
    "53300": "too_many_connections",
    "55P03": "lock_timeout",
    "57014": "statement_timeout",
    "57P": UNAVAILABLE,  # the server stops, starts, or has crashed
    "58030": "io_error",
}
# By SQLite's primary result code. See https://www.sqlite.org/rescode.html.
_SQLITE_ERRORS = {
    "SQLITE_BUSY": "lock_timeout",
    "SQLITE_CANTOPEN": UNAVAILABLE,
    "SQLITE_FULL": "disk_full",
    "SQLITE_IOERR": "io_error",
    "SQLITE_LOCKED": "lock_timeout",
    "SQLITE_NOMEM": "out_of_memory",
    "SQLITE_READONLY": "read_only",
}
# Errors of a new connection have no code. These are parts of the messages of PostgreSQL, libpq and PgBouncer.
_MESSAGES = {
    "too many clients": "too_many_connections",
    "connection slots are reserved": "too_many_connections",
    "too many connections": "too_many_connections",
    "no more connections allowed": "too_many_connections",
    "query_wait_timeout": POOL_EXHAUSTED,
    "is read-only": "read_only",
}
CAUSES = {
    *(UNAVAILABLE, POOL_EXHAUSTED, BLOCKED, OTHER),
    *_SQLSTATES.values(),
    *_SQLITE_ERRORS.values(),
    *_MESSAGES.values(),
}


class PoolExhausted(psycopg_pool.PoolTimeout):
    """Every connection of the pool was in use for as long as a request may wait."""


def cause_of(error: BaseException) -> str:
    """Return the cause of a database error that says nothing about the request, such as `lock_timeout`.

    Django's exceptions have the driver's as their `__cause__`.
    """
    reason: BaseException | None = error
    while reason is not None:
        if cause := _cause(reason):
            return cause
        reason = reason.__cause__
    return UNAVAILABLE


def _cause(error: BaseException) -> str | None:
    if isinstance(error, PoolExhausted):
        return POOL_EXHAUSTED
    if isinstance(error, Blocked):
        return BLOCKED
    if name := getattr(error, "sqlite_errorname", None):
        primary = "_".join(name.split("_")[:2])  # of SQLITE_IOERR_WRITE, for example
        return _SQLITE_ERRORS.get(primary, OTHER)
    message = str(error)
    for part, cause in _MESSAGES.items():
        if part in message:
            return cause
    if code := getattr(error, "sqlstate", None):
        return _SQLSTATES.get(code) or _SQLSTATES.get(code[:3]) or _SQLSTATES.get(code[:2]) or OTHER
    return None
