import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from django.db import OperationalError
from django.db.backends.postgresql import schema

CONCURRENTLY = re.compile(r"\bINDEX\s+CONCURRENTLY\s", re.IGNORECASE)
CREATED_INDEX = re.compile(
    r'\s*CREATE\s+(?:UNIQUE\s+)?INDEX\s+CONCURRENTLY\s+(?:IF\s+NOT\s+EXISTS\s+)?("[^"]+"|\w+)\s+ON\s', re.IGNORECASE
)
LIFT_LOCK_TIMEOUT = "SELECT current_setting('lock_timeout'), set_config('lock_timeout', '0', false)"
RESTORE_LOCK_TIMEOUT = "SELECT set_config('lock_timeout', %s, false)"
IS_INVALID = "SELECT 1 FROM pg_index WHERE indexrelid = to_regclass(%s) AND NOT indisvalid"


class SchemaEditor(schema.DatabaseSchemaEditor):
    """Django's schema editor, with two differences.

    A statement that creates or drops an index `CONCURRENTLY` has no lock timeout: it waits for all earlier
    transactions, which delays nobody else. A creation that failed leaves an invalid index with the same name: the next
    one drops it first, and does nothing if there is a valid one.

    Indexed text columns get no second index for `LIKE`. Ids, digests and foreign keys are never searched by prefix, and
    Django has no option for this. Where such an index is needed, a migration creates it.
    """

    sql_create_index_concurrently = schema.DatabaseSchemaEditor.sql_create_index_concurrently.replace(
        " CONCURRENTLY ", " CONCURRENTLY IF NOT EXISTS "
    )

    def execute(self, sql: Any, params: Any = ()) -> None:
        statement = str(sql)
        if self.collect_sql or not CONCURRENTLY.search(statement):
            super().execute(sql, params)
            return
        with self._without_lock_timeout():
            if (created := CREATED_INDEX.match(statement)) and self._is_invalid(created[1]):
                super().execute(self.sql_delete_index_concurrently % {"name": created[1]}, None)
            super().execute(sql, params)

    @contextmanager
    def _without_lock_timeout(self) -> Iterator[None]:
        with self.connection.cursor() as cursor:
            cursor.execute(LIFT_LOCK_TIMEOUT)
            [previous, _] = cursor.fetchone()
            try:
                yield
            finally:
                with suppress(OperationalError):  # if the connection was lost, its settings are gone
                    cursor.execute(RESTORE_LOCK_TIMEOUT, [previous])

    def _is_invalid(self, name: str) -> bool:
        with self.connection.cursor() as cursor:
            cursor.execute(IS_INVALID, [name])
            return cursor.fetchone() is not None

    def _create_like_index_sql(self, model: Any, field: Any) -> None:
        return None
