"""SQL made of constants, of few texts, run as cheaply as the database allows.

On PostgreSQL it is prepared on the server, once a connection, and its rows arrive in binary form: no parsing, no
planning, no timestamps as text. The ORM's own statements stay as they are, bound on the client. Behind a pooler nothing
is prepared (see `core.db.postgresql.base`).
"""

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import psycopg
from django.db import DEFAULT_DB_ALIAS, NotSupportedError, connections


def fetch(statement: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Return every row of one statement, with Django's exceptions, query log and execute wrappers.

    `statement` is a constant, in the database's own SQL, its parameters named as in `%(name)s`.
    """
    database: Any = connections[DEFAULT_DB_ALIAS]  # django.db.connection looks it up anew for each attribute
    if database.vendor != "postgresql":
        with database.cursor() as cursor:
            cursor.execute(statement, parameters)
            return list(cursor.fetchall())
    database.ensure_connection()
    try:
        return _fetch_prepared(database, statement, parameters)
    except NotSupportedError:
        # A migration has changed the columns of a statement that is prepared. psycopg would keep it.
        database.connection.prepare_threshold = None
        if database.in_atomic_block:
            raise
        return _fetch_prepared(database, statement, parameters)


def _fetch_prepared(database: Any, statement: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """`Connection.cursor()` would return Django's, which binds parameters on the client and prepares nothing."""
    cursor = psycopg.Cursor(database.connection)
    cursor.format = psycopg.pq.Format.BINARY
    # Django's debug cursor logs the statement that psycopg has sent, and psycopg keeps that of no prepared one.
    log = database.make_debug_cursor(cursor).debug_sql(statement) if database.queries_logged else nullcontext()
    with log:
        database.make_cursor(cursor).execute(statement, parameters)
    return cursor.fetchall()
