"""SQL made of constants, of few texts, run as cheaply as the database allows.

On PostgreSQL it is prepared on the server, once a connection, and its rows arrive in binary form: no parsing, no
planning, no timestamps as text. The ORM's own statements stay as they are, bound on the client.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from time import monotonic
from typing import Any, cast

import psycopg
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.utils import CursorWrapper


def fetch(statement: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Every row of one statement, with Django's exceptions, and its query log and wrappers for who looks at them.

    `statement` is a constant, in the database's own SQL, its parameters named as in `%(name)s`. In a transaction, where
    an error must leave the transaction to Django, and under execute wrappers it goes by a cursor.
    """
    database: Any = connections[DEFAULT_DB_ALIAS]  # django.db.connection looks it up anew for each attribute
    database.ensure_connection()
    is_prepared = database.vendor == "postgresql"
    if is_prepared and not (database.in_atomic_block or database.execute_wrappers):
        with database.wrap_database_errors, _logged(database, statement):
            return cast("list[tuple[Any, ...]]", database.connection.fetch_prepared(statement, parameters))
    with _prepared_cursor(database) if is_prepared else database.cursor() as cursor:
        cursor.execute(statement, parameters)
        return cast("list[tuple[Any, ...]]", cursor.fetchall())


def _logged(database: Any, statement: str) -> AbstractContextManager[None]:
    return _in_the_query_log(database, statement) if database.queries_logged else nullcontext()


@contextmanager
def _in_the_query_log(database: Any, statement: str) -> Iterator[None]:
    began = monotonic()
    try:
        yield
    finally:
        database.queries_log.append({"sql": statement, "time": f"{monotonic() - began:.3f}"})


def _prepared_cursor(database: Any) -> CursorWrapper:
    logged = database.queries_logged
    cursor: Any = (_LoggedCursor if logged else psycopg.Cursor)(database.connection)
    cursor.format = psycopg.pq.Format.BINARY
    made: CursorWrapper = (database.make_debug_cursor if logged else database.make_cursor)(cursor)
    return made


class _LoggedCursor(psycopg.Cursor[Any]):
    """Leaves the statement where Django's query log looks for it, which psycopg does not for prepared ones."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> "_LoggedCursor":
        super().execute(query, params, **options)
        self._query = self._convert_query(query, params)
        return self
