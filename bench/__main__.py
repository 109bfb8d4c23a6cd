"""Benchmarks against other packages. Prints a report in Markdown and, on the last line, the ratios as JSON."""

import argparse
import sys

from bench import report
from bench.contenders import contenders, seeds
from bench.isolation import isolation
from bench.memory import memory
from bench.stage import staged
from bench.statements import statements


def report_progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=40, help="slices per contender")
    options = parser.parse_args()
    with staged() as stage:
        report_progress("Filling databases: a minute or two …")
        seeded = seeds(stage)
        with contenders(stage, seeded) as (by_name, meter):
            statement_counts = {name: statements(stage, contender) for name, contender in by_name.items()}
            for number in range(options.rounds):
                report_progress(f"Round {number + 1} of {options.rounds}")
                # Every other round in reverse order, so that no contender always follows the same one.
                for contender in list(by_name.values())[:: -1 if number % 2 else 1]:
                    meter.take(contender)
        report_progress("Where the time goes …")
        milliseconds = stage.run(
            "-m",
            "bench.where",
            seeded.few["secrets"][0],
            seeded.few["workspaces"][0],
            database="few",
            GRANIAN_BLOCKING_THREADS="1",  # as in the measured servers
        )
        report_progress("Memory after 20,000 keys …")
        resident = memory(stage, seeded)
        report_progress("Isolation of workspaces …")
        results = report.Results(by_name, statement_counts, milliseconds, resident, isolation(stage, seeded))
    print(report.markdown(results))
    print(report.as_json(results))


main()
