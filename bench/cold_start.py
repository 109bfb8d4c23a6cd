"""Measures the first use of many keys in processes that have just started, with Argon2 at its production cost.

Starts its own PostgreSQL. Prints a table in Markdown and, for 100 processes and 10,000 keys, the processor seconds that
this means. Each process is one thread that authenticates every key once, as the first request with the key does,
without HTTP and quota. Times are processor times of the process that took longest.
"""

import argparse
import json
import os
import random
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.cluster import NEEDS, Cluster, find_programs, postgresql
from bench.stage import free_port

ROOT = Path(__file__).resolve().parent.parent
SECRET_KEY = secrets.token_urlsafe(50)
FLEET = (100, 10_000)  # processes, keys


class Process:
    """A process of `bench.cold_process`, which waits for its input."""

    def __init__(self, cluster: Cluster, task: str) -> None:
        environment = {"DEBUG": "on", "SECRET_KEY": SECRET_KEY, "DATABASE_URL": cluster.url}
        environment["APIKEYS_MAX_ACTIVE"] = "10000"
        arguments = [sys.executable, "-m", "bench.cold_process", task]
        pipe = subprocess.PIPE
        self._popen = subprocess.Popen(
            arguments, cwd=ROOT, env=os.environ | environment, stdin=pipe, stdout=pipe, text=True
        )
        assert self._popen.stdin
        assert self._popen.stdout
        self._input, self._output = self._popen.stdin, self._popen.stdout

    def wait_until_ready(self) -> None:
        assert self._output.readline() == "ready\n"

    def send(self, value: Any) -> None:
        self._input.write(json.dumps(value))
        self._input.close()

    def result(self) -> Any:
        with self._popen:
            return json.loads(self._output.read())


def measure(cluster: Cluster, orders: list[list[str]]) -> list[dict[str, float]]:
    """Authenticate keys in one process for each order, all at the same moment, and return what they measured."""
    processes = [Process(cluster, "authenticate") for _ in orders]
    for process in processes:
        process.wait_until_ready()
    for process, order in zip(processes, orders, strict=True):
        process.send(order)
    return [process.result() for process in processes]


def row(name: str, keys: int, measured: list[dict[str, float]]) -> str:
    runs = sum(process["runs"] for process in measured)
    argon2, all_work = (max(process[name] for process in measured) for name in ("argon2_seconds", "seconds"))
    return f"| {name} | {len(measured)} | {runs / keys:.2f} | {argon2:.2f} s | {all_work / keys * 1000:.1f} ms |"


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.cold_start", description=__doc__)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--keys", type=int, default=500)
    options = parser.parse_args()
    programs = find_programs()
    if programs is None:
        sys.exit(NEEDS)
    with postgresql(programs, free_port(), max_connections="200") as cluster:
        creator = Process(cluster, "create")
        creator.wait_until_ready()
        creator.send(options.keys)
        created = creator.result()
        shuffled = [random.sample(created, len(created)) for _ in range(options.processes)]

        def forget() -> None:
            cluster.query("UPDATE apikeys_storedsecret SET shared_proof = NULL")

        forget()
        alone = measure(cluster, [created])
        forget()
        different_order = measure(cluster, shuffled)
        forget()
        same_order = measure(cluster, [created] * options.processes)
        warm = measure(cluster, shuffled)
    print("| keys | processes | Argon2 runs per key | Argon2, in a process | all work, per key and process |")
    print("|---|---|---|---|---|")
    print(row("without proofs, one process", options.keys, alone))
    print(row("without proofs, processes that start together, each in its own order", options.keys, different_order))
    print(row("without proofs, all in the same order at the same moment", options.keys, same_order))
    print(row("with proofs", options.keys, warm))
    seconds_per_run = alone[0]["argon2_seconds"] / alone[0]["runs"]
    without_argon2 = max(process["seconds"] for process in warm) / options.keys
    processes, keys = FLEET
    print(
        f"\nOne run takes {seconds_per_run * 1000:.0f} ms. {processes} processes with {keys:,} keys: "
        f"{processes * keys * seconds_per_run:,.0f} s of a processor if each process ran Argon2 for each key, "
        f"{keys * seconds_per_run:,.0f} s with one run for each key, none with proofs. "
        f"With proofs, all work for {keys:,} keys takes a process {keys * without_argon2:,.0f} s."
    )


if __name__ == "__main__":
    main()
