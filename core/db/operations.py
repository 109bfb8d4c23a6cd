"""Operations of migrations that create and drop indexes without blocking requests.

A migration with one of them needs `atomic = False`, and can be run again after an interruption: on PostgreSQL it
creates only the indexes that are missing or incomplete. On SQLite, which has one writer anyway, they are ordinary
operations.
"""

from typing import Any

from django.contrib.postgres import operations
from django.db.migrations.operations import AddIndex, AlterField


def drop_index(schema_editor: Any, name: str) -> None:
    """Drop an index if it exists. On PostgreSQL, call it outside of transactions."""
    concurrently = "CONCURRENTLY" if schema_editor.connection.vendor == "postgresql" else ""
    schema_editor.execute(f"DROP INDEX {concurrently} IF EXISTS {schema_editor.quote_name(name)}")


class AddIndexConcurrently(operations.AddIndexConcurrently):
    """Create an index. Use this instead of Django's operation, which fails on SQLite."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        if schema_editor.connection.vendor == "postgresql":
            super().database_forwards(app_label, schema_editor, from_state, to_state)
        else:
            drop_index(schema_editor, self.index.name)  # of an attempt that was interrupted
            AddIndex.database_forwards(self, app_label, schema_editor, from_state, to_state)

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        drop_index(schema_editor, self.index.name)


class DropFieldIndex(AlterField):
    """Drop the index of a field that gets `db_index=False`. The field must not change otherwise."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        connection, model = schema_editor.connection, to_state.apps.get_model(app_label, self.model_name)
        column = model._meta.get_field(self.name).column
        with connection.cursor() as cursor:
            constraints = connection.introspection.get_constraints(cursor, model._meta.db_table)
        for name, constraint in constraints.items():
            is_plain = constraint["index"] and not (constraint["unique"] or constraint["primary_key"])
            if is_plain and constraint["columns"] == [column]:
                drop_index(schema_editor, name)
