"""Each migration is compatible with the release before it, and never locks a table for longer than a moment.

django-migration-linter reads the SQL for PostgreSQL. This module adds rules that it lacks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from typing import Any

import pytest
from django.contrib.postgres.operations import AddConstraintNotValid
from django.db import connection, models
from django.db.migrations import (
    AddConstraint,
    AddField,
    AddIndex,
    AlterField,
    CreateModel,
    DeleteModel,
    Migration,
    RemoveField,
    RemoveIndex,
    RenameField,
    RenameModel,
    RunPython,
    RunSQL,
)
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState
from django_migration_linter import MigrationLinter
from django_migration_linter.sql_analyser.base import Check, CheckMode, CheckType
from django_migration_linter.sql_analyser.postgresql import PostgresqlAnalyser
from pytest_django import DjangoDbBlocker

from core.db.operations import AddIndexConcurrently, drop_index
from tests.helpers import commits

pytestmark = pytest.mark.skipif(connection.vendor != "postgresql", reason="the rules are PostgreSQL's")

APPS = {"workspaces", "apikeys", "oauth", "onehorizon"}
# Migrations that break a rule knowingly, with the rules. To drop or rename what the release before no longer uses is
# one reason.
EXEMPT = {
    "oauth.0003_scopes_and_token_families": {"DATA_WITH_SCHEMA"},  # updates a table of few rows
    "workspaces.0003_task_contributor_workspace": {"DATA_WITH_SCHEMA"},  # its RunPython creates a trigger
    # Their RunPython creates and drops indexes, and can be repeated too.
    "workspaces.0005_indexes": {"DATA_WITH_SCHEMA", "REPEATABLE"},
    "apikeys.0002_indexes": {"DATA_WITH_SCHEMA", "REPEATABLE"},
    # Its RunPython creates triggers, and an index of the new table. Dropping NOT NULL reads no rows.
    "apikeys.0004_stored_secret": {"DATA_WITH_SCHEMA"},
    "workspaces.0009_tier_limits": {"VALIDATED_CONSTRAINT"},  # a table of few rows
}
# Dropping an index takes a moment; the others are matters of style.
IGNORED = {"DROP_INDEX", "RUNPYTHON_ARGS_NAMING_CONVENTION", "RUNPYTHON_MODEL_VARIABLE_NAME"}


def rule(code: str, pattern: str, message: str) -> Check:
    """Return a check of single statements."""
    return Check(code, lambda sql, **_: re.search(pattern, sql), message, CheckMode.ONE_LINER, CheckType.ERROR)


class Analyser(PostgresqlAnalyser):
    """The linter's checks and our own, without those statements that concern a table of the same migration.

    Nobody uses such a table yet. The linter itself stops searching at the first one.
    """

    migration_checks = [
        *PostgresqlAnalyser.migration_checks,
        rule("DROP_DEFAULT", "DROP DEFAULT", "The old release inserts rows without this column: use db_default"),
        rule("SET_NOT_NULL", "SET NOT NULL", "SET NOT NULL reads the whole table under a lock"),
        rule(
            "VALIDATED_CONSTRAINT",
            r"ADD CONSTRAINT .* (CHECK|FOREIGN KEY)(?!.*NOT VALID)",
            "ADD CONSTRAINT reads the whole table under a lock: add it NOT VALID and validate it in another migration",
        ),
    ]

    def analyse(self, sql_statements: list[str]) -> None:
        super().analyse(on_existing_tables(sql_statements))


def on_existing_tables(statements: list[str]) -> list[str]:
    created = {
        match[1] for match in (re.match(r'CREATE TABLE "(\w+)"', statement) for statement in statements) if match
    }
    tables = {statement: re.search(r'\b(?:TABLE|ON) "(\w+)"', statement) for statement in statements}
    return [statement for statement, table in tables.items() if table is None or table[1] not in created]


def broken_rules(migration: Migration, before: ProjectState, linter: MigrationLinter) -> set[str]:
    """Return the codes of the rules that a migration breaks. `before` is the state that it starts from."""
    with connection.schema_editor(collect_sql=True, atomic=migration.atomic) as editor:
        migration.apply(before.clone(), editor, collect_sql=True)
    statements = [line for line in editor.collected_sql if not line.startswith("--")]
    analyser = Analyser(None)
    analyser.analyse(statements)
    issues = chain(analyser.errors, analyser.warnings, *linter.analyse_data_migration(migration))
    broken = {issue.code for issue in issues} - IGNORED

    changes_schema = any(re.match("ALTER|CREATE|DROP", statement) for statement in on_existing_tables(statements))
    changes_data = any(isinstance(operation, RunPython) for operation in migration.operations) or any(
        re.match("INSERT|UPDATE|DELETE", statement) for statement in statements
    )
    if changes_schema and changes_data:
        broken.add("DATA_WITH_SCHEMA")  # the table is locked until all rows have been changed
    if not migration.atomic and not is_repeatable(migration, statements):
        broken.add("REPEATABLE")
    return broken


def is_repeatable(migration: Migration, statements: list[str]) -> bool:
    """Return whether a migration without a transaction can be run again after any of its statements."""
    if len(migration.operations) == 1 and len(statements) <= 1:
        return True
    has_code = any(isinstance(operation, RunPython) for operation in migration.operations)
    return not has_code and all(re.search(r" IF (NOT )?EXISTS ", statement) for statement in statements)


@pytest.fixture(scope="module", autouse=True)
def _database(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Read without a transaction: operations that create an index concurrently refuse to be in one."""
    with django_db_blocker.unblock():
        yield


@pytest.fixture(scope="module")
def linter(_database: None) -> MigrationLinter:
    return MigrationLinter()


@pytest.fixture(scope="module")
def state(linter: MigrationLinter) -> ProjectState:
    """The models after all migrations."""
    return linter.migration_loader.project_state()


def test_no_migration_stops_requests_or_the_release_before(linter: MigrationLinter) -> None:
    loader = linter.migration_loader
    broken = {
        f"{app}.{name}": broken_rules(migration, loader.project_state((app, name), at_end=False), linter)
        for (app, name), migration in loader.disk_migrations.items()
        if app in APPS
    }

    assert {name: rules for name, rules in broken.items() if rules} == EXEMPT


# ---- the rules ----


def text(**options: Any) -> models.CharField[Any, Any]:
    return models.CharField(max_length=9, **options)


def change_data(apps: Any, schema_editor: Any) -> None:
    """Stands for a data migration."""


NOT_EMPTY = models.CheckConstraint(condition=~models.Q(title=""), name="title_not_empty")
BY_TITLE = models.Index(fields=["title"], name="task_by_title")
BY_SECONDS = models.Index(fields=["seconds"], name="tier_by_seconds")
CREATE_NOTE = CreateModel(
    "Note",
    [
        ("id", models.BigAutoField(primary_key=True)),
        ("task", models.ForeignKey("workspaces.Task", models.CASCADE)),
        ("text", text(unique=True)),
    ],
    options={"constraints": [models.CheckConstraint(condition=~models.Q(text=""), name="note_not_empty")]},
)
DATA = RunPython(change_data, RunPython.noop)


@pytest.mark.parametrize(
    "operations",
    [
        [AddField("Task", "colour", text(null=True))],
        [AddField("Task", "colour", text(db_default="", default=""))],
        [AddField("Task", "parent", models.ForeignKey("workspaces.Task", models.CASCADE, null=True, db_index=False))],
        [AlterField("Task", "kind", models.CharField(max_length=4, choices=[("task", "Task")]))],
        [CREATE_NOTE],
        [CREATE_NOTE, DATA],
        [AddConstraintNotValid("Task", NOT_EMPTY)],
        [RemoveIndex("Task", "task_newest_first")],
        [DATA],
    ],
)
def test_safe_migrations(operations: list[Operation], state: ProjectState, linter: MigrationLinter) -> None:
    assert broken_rules(migration_of(operations), state, linter) == set()


@pytest.mark.parametrize(
    ("broken", "operations"),
    [
        ("DROP_DEFAULT", [AddField("Task", "colour", text(default=""))]),
        ("DROP_DEFAULT", [AddField("Task", "size", text(db_default="")), AddField("Task", "colour", text(default=""))]),
        ("SET_NOT_NULL", [AlterField("User", "last_login", models.DateTimeField())]),
        ("ALTER_COLUMN", [AlterField("Task", "title", models.CharField(max_length=100))]),
        ("DROP_COLUMN", [RemoveField("Task", "title")]),
        ("RENAME_COLUMN", [RenameField("Task", "title", "name")]),
        ("RENAME_TABLE", [RenameModel("Tier", "Plan")]),
        ("DROP_TABLE", [DeleteModel("TaskContributor")]),
        ("CREATE_INDEX", [AddIndex("Task", BY_TITLE)]),
        ("CREATE_INDEX", [CREATE_NOTE, AddIndex("Task", BY_TITLE)]),
        ("CREATE_INDEX", [AddField("Task", "parent", models.ForeignKey("workspaces.Task", models.CASCADE, null=True))]),
        ("ADD_UNIQUE", [AddConstraint("Task", models.UniqueConstraint(fields=["title"], name="task_title_unique"))]),
        ("VALIDATED_CONSTRAINT", [AddConstraint("Task", NOT_EMPTY)]),
        ("DATA_WITH_SCHEMA", [AddField("Task", "colour", text(null=True)), DATA]),
        ("RUNSQL_REVERSIBLE", [RunSQL("UPDATE workspaces_task SET title = ''")]),
    ],
)
def test_unsafe_migrations(
    broken: str, operations: list[Operation], state: ProjectState, linter: MigrationLinter
) -> None:
    assert broken in broken_rules(migration_of(operations), state, linter)


def test_a_migration_without_a_transaction_can_be_repeated(state: ProjectState, linter: MigrationLinter) -> None:
    indexes: list[Operation] = [AddIndexConcurrently("Task", BY_TITLE), AddIndexConcurrently("Tier", BY_SECONDS)]

    assert broken_rules(migration_of(indexes, atomic=False), state, linter) == set()
    with_field = [AddField("Task", "colour", text(null=True)), *indexes]
    assert broken_rules(migration_of(with_field, atomic=False), state, linter) == {"REPEATABLE"}


@commits
def test_a_repeated_migration_keeps_an_index_that_is_complete(state: ProjectState) -> None:
    """Such as after an interruption: with many rows, another creation would take minutes."""
    migration = migration_of([AddIndexConcurrently("Tier", BY_SECONDS)], atomic=False)
    created = []
    with connection.schema_editor(atomic=False) as editor, connection.cursor() as cursor:
        try:
            for _ in range(2):
                migration.apply(state.clone(), editor)
                cursor.execute("SELECT to_regclass(%s)::oid", [BY_SECONDS.name])
                created.append(cursor.fetchone())
        finally:
            drop_index(editor, BY_SECONDS.name)

    assert created[0] is not None
    assert created[0] == created[1]


def migration_of(operations: list[Operation], atomic: bool = True) -> Migration:
    migration = Migration("9999_example", "workspaces")
    migration.__dict__.update(operations=operations, atomic=atomic)
    return migration
