"""Run hand-written SQL as server-side prepared statements. See docs/architecture.md.

On PostgreSQL each connection parses and plans a statement once, and rows arrive in binary format. The ORM's statements
are not affected: their parameters are bound on the client. Behind a pooler nothing is prepared (see
`core.db.postgresql.base`).
"""

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import psycopg
from django.db import DEFAULT_DB_ALIAS, NotSupportedError, connections


def fetch(statement: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Return all rows of one statement, with Django's exceptions, query log and execute wrappers.

    `statement` is in the database's SQL dialect. Its text contains no input: that is in parameters such as `%(name)s`.
    """
    database: Any = connections[DEFAULT_DB_ALIAS]  # faster than the proxy django.db.connection
    if database.vendor != "postgresql":
        with database.cursor() as cursor:
            cursor.execute(statement, parameters)
            return list(cursor.fetchall())
    database.ensure_connection()
    try:
        return _fetch_prepared(database, statement, parameters)
    except NotSupportedError:
        # A migration changed the result columns of a prepared statement, and psycopg would keep using it.
        # This connection prepares nothing from now on.
        database.connection.prepare_threshold = None
        if database.in_atomic_block:
            raise
        return _fetch_prepared(database, statement, parameters)


def _fetch_prepared(database: Any, statement: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    # Not `Connection.cursor()`: Django sets a cursor class there that binds parameters on the client.
    cursor = psycopg.Cursor(database.connection)
    cursor.format = psycopg.pq.Format.BINARY
    # Django's debug cursor logs the last query that psycopg sent, but psycopg doesn't keep a prepared one's text.
    log = database.make_debug_cursor(cursor).debug_sql(statement) if database.queries_logged else nullcontext()
    with log:
        database.make_cursor(cursor).execute(statement, parameters)
    return cursor.fetchall()
