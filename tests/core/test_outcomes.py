"""What PostgreSQL says about a transaction whose COMMIT got no answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.db import OperationalError, connection, transaction

from core.db import outcomes
from tests.helpers import commits
from tests.processes import database_url

pytestmark = [
    commits,
    pytest.mark.skipif(
        connection.vendor != "postgresql",
        reason="SQLite has no connection to lose: set DATABASE_URL to a postgres:// URL",
    ),
]


@pytest.fixture
def other(transactional_db: None) -> Iterator[psycopg.Connection[Any]]:
    """The connection of another client, with an open transaction."""
    with psycopg.connect(database_url()) as client:
        yield client


def id_in(client: psycopg.Connection[Any]) -> str:
    [value] = client.execute("SELECT pg_current_xact_id()::text").fetchone() or [""]
    return str(value)


def test_a_committed_transaction(other: psycopg.Connection[Any]) -> None:
    transaction_id = id_in(other)
    other.commit()

    assert outcomes.was_committed(transaction_id)


def test_a_transaction_that_was_rolled_back(other: psycopg.Connection[Any]) -> None:
    transaction_id = id_in(other)
    other.rollback()

    assert not outcomes.was_committed(transaction_id)


def test_a_transaction_in_progress_must_be_asked_about_again(other: psycopg.Connection[Any]) -> None:
    transaction_id = id_in(other)

    with pytest.raises(OperationalError, match="has not ended yet"):
        outcomes.was_committed(transaction_id)


def test_a_transaction_that_a_promoted_standby_has_not_received(other: psycopg.Connection[Any]) -> None:
    future = str(int(id_in(other)) + 1_000_000)

    assert not outcomes.was_committed(future)
    with transaction.atomic():
        assert outcomes.transaction_id() is not None  # the connection still works


def test_the_id_is_that_of_the_current_transaction() -> None:
    with transaction.atomic():
        committed = outcomes.transaction_id()
        assert committed == outcomes.transaction_id()
    with transaction.atomic():
        rolled_back = outcomes.transaction_id()
        transaction.set_rollback(True)

    assert committed is not None
    assert rolled_back is not None
    assert (outcomes.was_committed(committed), outcomes.was_committed(rolled_back)) == (True, False)
