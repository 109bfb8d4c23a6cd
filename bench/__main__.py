"""Us beside others. Prints a report in Markdown and, as its last line, the ratios as one JSON object."""

import argparse
import sys

from bench import report
from bench.contenders import contenders, seeds
from bench.isolation import isolation
from bench.memory import memory
from bench.stage import staged
from bench.statements import statements


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=40, help="slices of each contender")
    options = parser.parse_args()
    with staged() as stage:
        say("Filling databases: a minute or two …")
        seeded = seeds(stage)
        with contenders(stage, seeded) as (named, meter):
            asked = {name: statements(stage, each) for name, each in named.items()}
            for number in range(options.rounds):
                say(f"Round {number + 1} of {options.rounds}")
                # There and back, so that nobody always comes after the same.
                for each in list(named.values())[:: -1 if number % 2 else 1]:
                    meter.take(each)
        say("Where the time goes …")
        spent = stage.run(
            "-m",
            "bench.where",
            seeded.few["secrets"][0],
            seeded.few["workspaces"][0],
            database="few",
            GRANIAN_BLOCKING_THREADS="1",  # as those that were measured
        )
        say("Memory, by 20,000 keys …")
        grown = memory(stage, seeded)
        say("One workspace beside another …")
        found = report.Found(named, asked, spent, grown, isolation(stage, seeded))
    print(report.markdown(found))
    print(report.as_json(found))


main()
