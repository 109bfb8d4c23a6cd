"""The pool of connections to PostgreSQL says why it has none."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import connection
from psycopg_pool import PoolTimeout

from core.db.faults import cause_of
from core.db.postgresql.base import Connection, Pool
from tests.processes import TIMEOUT, database_url, free_port

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no pool"),
]


@pytest.fixture
def pool() -> Iterator[Pool]:
    with Pool(database_url(), min_size=1, max_size=1, connection_class=Connection, open=True) as pool:
        yield pool


def test_a_pool_whose_connections_are_all_in_use_is_exhausted(pool: Pool) -> None:
    held = pool.getconn(TIMEOUT)
    with pytest.raises(PoolTimeout) as excinfo:
        pool.getconn(0.01)
    pool.putconn(held)

    assert cause_of(excinfo.value) == "pool_exhausted"


def test_a_pool_that_can_not_connect_names_the_reason() -> None:
    unavailable = f"postgres://nobody@127.0.0.1:{free_port()}/nothing"
    pool = Pool(unavailable, min_size=1, connection_class=Connection, open=True)
    with pool, pytest.raises(PoolTimeout, match="Connection refused") as excinfo:
        pool.getconn(0.5)

    assert cause_of(excinfo.value) == "unavailable"
