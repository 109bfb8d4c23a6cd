from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench.cluster import find_programs
from tests.processes import program, skip_without
from tests.system.cluster.installation import Installation, installation

PROGRAMS = ("nginx", "openssl", "pgbouncer", "redis-server")  # each in the package of the same name


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """The installation that these tests share. After the test of a failover it runs on the standby."""
    if find_programs() is None:
        skip_without("PostgreSQL's server and setpriv", "apt-get install postgresql util-linux")
    for name in PROGRAMS:
        program(name, install=f"apt-get install {name}")
    with installation(tmp_path_factory.mktemp("cluster")) as installed:
        yield installed
