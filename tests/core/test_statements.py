"""Prepared statements on PostgreSQL connections."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import psycopg
import pytest
from django.db import DataError, NotSupportedError, connection, transaction
from django.test.utils import CaptureQueriesContext

from core.db.statements import fetch
from tests.helpers import commits
from tests.processes import database_url

pytestmark = [
    commits,
    pytest.mark.skipif("connection.vendor != 'postgresql'", reason="only PostgreSQL has prepared statements"),
]


@pytest.fixture(autouse=True)
def _new_connection() -> Iterator[None]:
    """Give each test a new connection, and leave none to later tests that prepares no statements any more."""
    _close_all_connections()
    yield
    _close_all_connections()


def _close_all_connections() -> None:
    connection.close()
    connection.close_pool()  # type: ignore[attr-defined]  # not in the stubs


def test_a_connection_keeps_a_limited_number_of_prepared_statements() -> None:
    for number in range(120):
        assert fetch(f"SELECT {number} + %(one)s::int", {"one": 1}) == [(number + 1,)]

    assert fetch("SELECT 0 + %(one)s::int", {"one": 1}) == [(1,)]  # evicted before
    count = fetch("SELECT count(*) FROM pg_prepared_statements WHERE name LIKE '_pg3_%%'", {})[0][0]
    assert count - 1 <= connection.connection.prepared_max  # psycopg evicts one after the counting statement


@pytest.fixture(params=["outside a transaction", "in a transaction"])
def _transaction(request: pytest.FixtureRequest) -> Iterator[None]:
    with transaction.atomic() if request.param == "in a transaction" else nullcontext():
        yield


@pytest.mark.usefixtures("_transaction")
@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("'{}'::bigint[]", []),
        ("ARRAY[1, -2, 9223372036854775807]::bigint[]", [1, -2, 2**63 - 1]),
        ("ARRAY[1, NULL]::bigint[]", [1, None]),
        ("ARRAY[[1, 2], [3, 4]]::bigint[]", [[1, 2], [3, 4]]),
        ("NULL::bigint[]", None),
        ("%(text)s::text || %(text)s", "Größe, 100 %Größe, 100 %"),
        ("%(nothing)s::text", None),
    ],
)
def test_values_have_the_same_types_as_from_djangos_cursors(expression: str, value: Any) -> None:
    assert fetch(f"SELECT {expression}", {"text": "Größe, 100 %", "nothing": None}) == [(value,)]


def test_an_error_is_a_django_exception_and_the_connection_stays_usable() -> None:
    for context in (nullcontext(), nullcontext(), transaction.atomic(), transaction.atomic()):
        with pytest.raises(DataError), context:
            fetch("SELECT 1 / %(zero)s::int", {"zero": 0})

    assert fetch("SELECT 1", {}) == [(1,)]


@pytest.mark.usefixtures("_transaction")
def test_statements_are_in_the_query_log() -> None:
    with CaptureQueriesContext(connection) as captured:
        fetch("SELECT %(one)s::int", {"one": 1})

    assert [query["sql"] for query in captured] == ["SELECT %(one)s::int"]


@pytest.mark.usefixtures("_transaction")
def test_execute_wrappers_wrap_statements() -> None:
    seen = []

    def wrapper(execute: Any, statement: str, parameters: Any, many: bool, context: Any) -> Any:
        seen.append((statement, parameters))
        return execute(statement, parameters, many, context)

    with connection.execute_wrapper(wrapper):
        assert fetch("SELECT %(one)s::int", {"one": 1}) == [(1,)]

    assert seen == [("SELECT %(one)s::int", {"one": 1})]


def test_a_statement_is_parsed_once_per_connection() -> None:
    for _ in range(3):
        fetch("SELECT 8", {})

    prepared = "SELECT count(*)::int FROM pg_prepared_statements WHERE statement = 'SELECT 8'"
    assert fetch(prepared, {}) == [(1,)]


@pytest.mark.parametrize("command", ["DEALLOCATE ALL", "ROLLBACK"])
def test_statements_are_prepared_again_after_they_were_deallocated(command: str) -> None:
    assert fetch("SELECT 7", {}) == [(7,)]
    if command == "ROLLBACK":
        with transaction.atomic():
            transaction.set_rollback(True)
    else:
        with connection.cursor() as cursor:
            cursor.execute(command)

    assert fetch("SELECT 7", {}) == [(7,)]


def test_a_migration_that_widens_a_column_breaks_no_statement() -> None:
    """PostgreSQL rejects a prepared statement once its result columns have changed."""
    with psycopg.connect(database_url(), autocommit=True) as migration:
        migration.execute("CREATE TABLE widened AS SELECT 'a'::varchar(5) AS value")
        try:
            assert fetch("SELECT value FROM widened", {}) == [("a",)]
            migration.execute("ALTER TABLE widened ALTER value TYPE varchar(9)")
            with pytest.raises(NotSupportedError), transaction.atomic():
                fetch("SELECT value FROM widened", {})
            assert fetch("SELECT value FROM widened", {}) == [("a",)]
        finally:
            migration.execute("DROP TABLE widened")
