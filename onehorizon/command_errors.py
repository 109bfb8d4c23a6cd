"""One sentence about a database that a command can't use, instead of a traceback."""

import re
import sqlite3

import psycopg
from django.db import DatabaseError, OperationalError, connection
from django.db.migrations.exceptions import MigrationSchemaMissing
from psycopg_pool import PoolTimeout

from onehorizon.health import is_migrated

MISSING_MIGRATIONS = "The database lacks migrations of this release: run manage.py migrate."
# SQLite's errors that a bug does not cause. Python raises some of them, and many bugs, as OperationalError.
SQLITE_FAILURES = {
    *(
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
    ),
    *(sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB),
}
# PostgreSQL's errors that a bug does not cause. Like many bugs, they are Django's InternalError or ProgrammingError.
POSTGRESQL_FAILURES = (psycopg.errors.IdleInTransactionSessionTimeout, psycopg.errors.InsufficientPrivilege)
# psycopg's line about one of several hosts. The first line of its message is about the last one only.
HOST_FAILURE = re.compile(
    r"^- host: (?:'(.*?)'|None), port: (?:'(.*?)'|None), hostaddr: (?:'(.*?)'|None): "
    r"(?:connection failed: )?(?:connection to server .*? failed: )?(.*)$",
    re.MULTILINE,
)


def database_problem(error: DatabaseError, command: str) -> str | None:
    """Return a sentence about a database that is unavailable or lacks migrations, or None if the error is a bug.

    `migrate` itself can't fail for lack of migrations.
    """
    try:
        if not _is_failure(error):
            return None if command == "migrate" or is_migrated() else MISSING_MIGRATIONS
    except DatabaseError as failure:
        error = failure
    return f"The database can't be used: {_reason(error)}."


def _is_failure(error: DatabaseError) -> bool:
    cause = error.__cause__
    if isinstance(cause, sqlite3.Error):
        return cause.sqlite_errorcode & 0xFF in SQLITE_FAILURES  # without SQLite's details
    return isinstance(error, OperationalError | MigrationSchemaMissing) or isinstance(cause, POSTGRESQL_FAILURES)


def _reason(error: DatabaseError) -> str:
    """Return the first line of the driver's message, or what it says about each of several hosts."""
    cause: BaseException = error.__context__ or error
    if isinstance(cause, PoolTimeout):  # the pool does not say why it could not connect
        try:
            psycopg.connect(**connection.get_connection_params()).close()
        except psycopg.Error as failure:
            cause = failure
    if failures := HOST_FAILURE.findall(str(cause)):
        return "; ".join(
            f"{':'.join(filter(None, (host or address, port)))}: {failure}" for host, port, address, failure in failures
        )
    return str(cause).partition("\n")[0].rstrip(".")
