"""A hot standby of a temporary PostgreSQL server."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.cluster import Cluster
from tests.processes import wait_until

NAME = "standby"  # of its connection to the primary, for synchronous_standby_names


class Standby(Cluster):
    """A copy of a running server, which follows it until it is promoted."""

    primary: Cluster

    def create(self) -> None:
        self.own_directory()
        source = f"host=127.0.0.1 port={self.primary.port} user=postgres application_name={NAME}"
        self.run("pg_basebackup", "-d", source, "--write-recovery-conf", "--checkpoint=fast", "--no-sync")

    def promote(self) -> None:
        """Make this server a primary. Return when it accepts writes."""
        self.run("pg_ctl", "-w", "-s", "promote")


@contextmanager
def standby_of(primary: Cluster, port: int) -> Iterator[Standby]:
    """Start a standby with the settings of its primary. It is deleted at the end of the block."""
    with tempfile.TemporaryDirectory(prefix="onehorizon-", ignore_cleanup_errors=True) as directory:
        standby = Standby(primary.programs, Path(directory), port, primary.settings)
        standby.primary = primary
        standby.create()
        standby.start()
        try:
            yield standby
        finally:
            if standby.is_running:
                standby.stop("immediate")


def set_synchronous(primary: Cluster, on: bool) -> None:
    """Let each commit on the primary wait for the standby, or not.

    The setting is only on the primary. A promoted server that had it would wait for a standby that it does not have.
    """
    names = NAME if on else ""
    primary.query(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'")
    primary.query("SELECT pg_reload_conf()")
    state = "sync" if on else "async"
    wait_until(lambda: primary.query("SELECT sync_state FROM pg_stat_replication") == [(state,)])
