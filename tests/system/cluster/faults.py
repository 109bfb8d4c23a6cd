"""Break a running installation in every way, and print the fault table of docs/operations.md: `make faults`."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import django
import pytest

django.setup()

from tests.processes import wait_until  # noqa: E402, needs django.setup()
from tests.system.cluster.client import ME, Traffic, traffic  # noqa: E402
from tests.system.cluster.installation import Installation, installation  # noqa: E402
from tests.system.cluster.standby import set_synchronous  # noqa: E402

SUCCESS = {200, 201, 204}
WARM_UP, CALM = 2.0, 4.0  # seconds of traffic before the fault, and without a failure after it

Break = Callable[[Installation], None]


@dataclass
class Outcome:
    """What clients saw from the fault on."""

    statuses: Counter[int]
    seconds: float  # until the last failed response
    slowest: float  # seconds that the slowest response took
    lost_keys: int
    lost_revocations: int

    def row(self, name: str) -> str:
        failures = {status: count for status, count in sorted(self.statuses.items()) if status not in SUCCESS}
        total = self.statuses.total()
        seen = f"all {total} responses succeeded"
        if failures:
            counts = " and ".join(
                f"{count} {'was' if count == 1 else 'were'} {status or 'cut off'}" for status, count in failures.items()
            )
            seen = f"of {total} responses {counts}"
        lost = {"keys": self.lost_keys, "revocations": self.lost_revocations}
        cells = [
            name,
            f"{seen}; the slowest took {self.slowest:.1f} s",
            f"{self.seconds:.1f}",
            ", ".join(f"{count} {what}" for what, count in lost.items() if count) or "nothing",
        ]
        return f"| {' | '.join(cells)} |"


def measure(installed: Installation, cause: Break) -> Outcome:
    """Cause a fault under load. Return what happened until `CALM` seconds passed without a failure."""
    seeded = installed.seeded
    with traffic(installed.proxy.client, seeded.busy, seeded.secret, seeded.token) as recorded:
        time.sleep(WARM_UP)
        began = time.monotonic()
        cause(installed)
        caused = time.monotonic()
        wait_until(lambda: is_calm(recorded, caused))
    later = [response for response in recorded.responses if response.ended > began]
    failures = [response for response in later if response.status not in SUCCESS]
    keys, revocations = installed.lost(recorded)
    return Outcome(
        Counter(response.status for response in later),
        max((response.ended for response in failures), default=began) - began,
        max(response.ended - response.began for response in later),
        len(keys),
        len(revocations),
    )


def is_calm(recorded: Traffic, since: float) -> bool:
    """Return whether requests of every kind, and only successful ones, ended in the last `CALM` seconds."""
    start = time.monotonic() - CALM
    return start > since and {response.status for response in recorded.responses if response.ended > start} == SUCCESS


# ---- faults ----


def kill_worker(installed: Installation) -> None:
    os.kill(installed.hosts[0].workers()[0], signal.SIGKILL)


def kill_host(installed: Installation) -> None:
    host = installed.hosts[0]
    host.kill()
    time.sleep(3)
    host.start()


def reload_host(installed: Installation) -> None:
    installed.hosts[0].reload()


def reload_proxy(installed: Installation) -> None:
    installed.proxy.nginx.reload()


def restart_pooler(installed: Installation) -> None:
    pooler = installed.poolers[0]
    pooler.stop()
    pooler.start()


def restart_postgresql(installed: Installation) -> None:
    with installed.primary.stopped():
        pass


def crash_postgresql(installed: Installation) -> None:
    with installed.primary.stopped("immediate"):
        time.sleep(2)


def freeze_postgresql(installed: Installation) -> None:
    with installed.primary.frozen():
        time.sleep(20)


def stop_cache(installed: Installation) -> None:
    installed.redis.stop()
    time.sleep(5)
    installed.redis.start()


def lock_another_workspace(installed: Installation) -> None:
    """Hold the row of the quota of another workspace, whose clients keep sending requests."""
    client, secret = installed.proxy.client, installed.seeded.counted[0]
    client.get(ME, secret)
    with installed.connect() as holder:
        holder.execute(
            "SELECT 1 FROM workspaces_quota q JOIN workspaces_workspace w ON w.id = q.subject "
            "WHERE w.slug = 'counted' FOR UPDATE"
        )
        until = time.monotonic() + 10

        def send() -> None:
            while time.monotonic() < until:
                client.get(ME, secret)

        with ThreadPoolExecutor(8) as threads:
            for _ in range(8):
                threads.submit(send)


def stop_synchronous_standby(installed: Installation) -> None:
    """Stop the standby for which every commit waits, and have it no longer wait."""
    set_synchronous(installed.primary, on=True)
    with installed.standby.stopped():
        time.sleep(5)
        installed.primary.query("ALTER SYSTEM RESET synchronous_standby_names")
        installed.primary.query("SELECT pg_reload_conf()")


def fail_over(installed: Installation) -> None:
    installed.fail_over()


def fail_over_behind(installed: Installation) -> None:
    """Fail over to a standby that has had no connection to the primary for two seconds."""
    installed.standby.query("ALTER SYSTEM SET primary_conninfo = ''")
    installed.standby.query("SELECT pg_reload_conf()")
    time.sleep(2)
    installed.fail_over()


def synchronously(cause: Break) -> Break:
    def with_synchronous_replication(installed: Installation) -> None:
        set_synchronous(installed.primary, on=True)
        cause(installed)

    return with_synchronous_replication


FAULTS: dict[str, Break] = {
    "a worker is killed": kill_worker,
    "a web host is killed, and starts again after 3 s": kill_host,
    "a web host is reloaded (`kill -HUP`)": reload_host,
    "nginx is reloaded": reload_proxy,
    "the cache (Redis) stops for 5 s": stop_cache,
    "another workspace's quota is locked for 10 s, with 8 clients of that workspace": lock_another_workspace,
    "the primary's PgBouncer is restarted": restart_pooler,
    "PostgreSQL is restarted": restart_postgresql,
    "PostgreSQL crashes, and starts again after 2 s": crash_postgresql,
    "PostgreSQL is frozen for 20 s": freeze_postgresql,
    "the synchronous standby stops; after 5 s the primary no longer waits for it": stop_synchronous_standby,
}
# Each needs an installation of its own.
FAILOVERS: dict[str, Break] = {
    "the primary is killed, the standby is promoted 1 s later; synchronous replication": synchronously(fail_over),
    "the same; asynchronous replication": fail_over,
    "the same, and the standby had lost its connection 2 s before; synchronous": synchronously(fail_over_behind),
    "the same, and the standby had lost its connection 2 s before; asynchronous": fail_over_behind,
}


def main() -> None:
    show("| fault | what clients saw | seconds to recover | acknowledged and lost |")
    show("|---|---|---|---|")
    for faults in (FAULTS, *({name: cause} for name, cause in FAILOVERS.items())):
        with tempfile.TemporaryDirectory() as directory, installation(Path(directory)) as installed:
            for name, cause in faults.items():
                show(measure(installed, cause).row(name))


def show(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        main()
    except pytest.skip.Exception as missing:  # a program, as in a test
        sys.exit(str(missing))
