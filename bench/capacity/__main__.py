"""What a worker, a host and the primary can do: prints the tables of docs/scale.md in Markdown."""

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

from bench.capacity.primary import admissions
from bench.capacity.storage import storage
from bench.capacity.web import requests
from bench.stage import Stage, staged

PARTS = ("storage", "web", "primary")


def tables(stage: Stage, parts: list[str], rounds: int) -> Iterator[str]:
    """Yield the lines of the report as they are measured."""
    few, many = (seed(stage, name) for name in ("few", "many"))
    if "storage" in parts:  # before requests make the tables larger
        yield from storage(stage)
        yield ""
    if "web" in parts:
        yield from requests(stage, few, many, rounds)
        yield ""
    if "primary" in parts:
        yield from admissions(stage, many, rounds)


def seed(stage: Stage, name: str) -> dict[str, list[str]]:
    stage.cluster.query(f"CREATE DATABASE {name}")
    seeded: dict[str, list[str]] = stage.run("-m", "bench.seed", name, database=name)
    return seeded


def machine() -> str:
    model = Path("/proc/cpuinfo").read_text().partition("model name\t: ")[2].partition("\n")[0]
    busy = os.getloadavg()[0]
    return f"{os.cpu_count()} processors ({model}), with a load of {busy:.1f} from other programs before the start."


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.capacity", description=__doc__)
    parser.add_argument("--part", action="append", choices=PARTS, dest="parts", help="measure only this; repeatable")
    parser.add_argument("--rounds", type=int, default=8, help="slices of each measurement")
    options = parser.parse_args()
    print(machine(), end="\n\n", flush=True)
    with staged() as stage:
        for line in tables(stage, options.parts or list(PARTS), options.rounds):
            print(line, flush=True)


main()
