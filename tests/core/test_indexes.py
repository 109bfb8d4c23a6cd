"""Each index has a purpose: none is a twin or a prefix of another, and none is for searches that nobody makes."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import pytest
from django.apps import apps
from django.db import connection

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(
        "connection.vendor != 'postgresql'",
        reason="reads PostgreSQL's catalog: set DATABASE_URL to a postgres:// URL",
    ),
]

# The searches in the admin find rows by the start of these texts.
PREFIX_INDEXES = {
    "api_key_description_prefix",
    "api_key_key_id_prefix",
    "stored_secret_key_id_prefix",
    "user_email_prefix",
    "workspace_slug_prefix",
}
OUR_APPS = ("workspaces", "apikeys", "oauth", "onehorizon")


class Index(NamedTuple):
    table: str
    name: str
    columns: tuple[str, ...]
    condition: str
    is_for_prefixes: bool
    is_unique: bool


def indexes() -> list[Index]:
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT indrelid::regclass::text, indexrelid::regclass::text,
                   ARRAY(SELECT pg_get_indexdef(indexrelid, n, true) FROM generate_series(1, indnatts) AS n),
                   coalesce(pg_get_expr(indpred, indrelid), ''),
                   (SELECT bool_or(opcname LIKE '%_pattern_ops') FROM pg_opclass WHERE oid = ANY (indclass)),
                   indisunique
            FROM pg_index JOIN pg_class ON pg_class.oid = indrelid
            WHERE relnamespace = current_schema()::regnamespace
            """
        )
        return [Index(table, name, tuple(columns), *rest) for table, name, columns, *rest in cursor.fetchall()]


def test_only_searches_by_prefix_have_an_index_for_them() -> None:
    assert {index.name for index in indexes() if index.is_for_prefixes} == PREFIX_INDEXES


def test_no_two_indexes_are_alike() -> None:
    counts = Counter((index.table, index.columns, index.condition, index.is_for_prefixes) for index in indexes())

    assert [index for index, count in counts.items() if count > 1] == []


def test_no_index_is_the_beginning_of_another() -> None:
    ours = {model._meta.db_table for app in OUR_APPS for model in apps.get_app_config(app).get_models()}
    full = [index for index in indexes() if index.table in ours and not index.condition and not index.is_for_prefixes]

    redundant = {
        (short.name, long.name)
        for short in full
        for long in full
        if short.table == long.table
        and short.name != long.name
        and short.columns == long.columns[: len(short.columns)]
        and not short.is_unique
    }

    assert redundant == set()


def test_statistics_of_tasks_are_updated_after_few_changes() -> None:
    """Without a new workspace in the statistics, PostgreSQL reads all its tasks for a filtered page."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT reloptions FROM pg_class WHERE oid = 'workspaces_task'::regclass")
        (options,) = cursor.fetchone()

    assert set(options) == {"autovacuum_analyze_scale_factor=0", "autovacuum_analyze_threshold=1000"}
