"""Prepared statements, as PostgreSQL's connections keep them."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import DataError, connection
from django.test.utils import CaptureQueriesContext

from core.db.statements import fetch
from tests.helpers import committed

pytestmark = [committed, pytest.mark.skipif("connection.vendor != 'postgresql'", reason="they are PostgreSQL's")]


def test_a_connection_keeps_a_hundred_of_them() -> None:
    for number in range(120):
        assert fetch(f"SELECT {number} + %(one)s::int", {"one": 1}) == [(number + 1,)]

    assert fetch("SELECT 0 + %(one)s::int", {"one": 1}) == [(1,)]  # one that was let go
    kept = fetch("SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'onehorizon%%'", {})
    assert kept[0][0] <= connection.connection.PREPARED_MAX


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
def test_values_come_as_they_are(expression: str, value: Any) -> None:
    assert fetch(f"SELECT {expression}", {"text": "Größe, 100 %", "nothing": None}) == [(value,)]


def test_an_error_is_djangos_and_leaves_the_connection_as_good_as_before() -> None:
    for _ in range(2):
        with pytest.raises(DataError):
            fetch("SELECT 1 / %(zero)s::int", {"zero": 0})

    assert fetch("SELECT 1", {}) == [(1,)]


def test_who_looks_at_the_query_log_finds_them() -> None:
    with CaptureQueriesContext(connection) as captured:
        fetch("SELECT %(one)s::int", {"one": 1})

    assert [query["sql"] for query in captured] == ["SELECT %(one)s::int"]


def test_they_are_prepared_again_where_they_were_let_go() -> None:
    assert fetch("SELECT 7", {}) == [(7,)]
    with connection.cursor() as cursor:
        cursor.execute("DEALLOCATE ALL")

    assert fetch("SELECT 7", {}) == [(7,)]
