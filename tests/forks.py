"""Runs the code on standard input in several processes at the same moment. `processes.in_processes` starts it.

They are forks of a process that has imported everything, and that has no connection and no other thread. Starting each
of them would take a second of CPU.
"""

from __future__ import annotations

import io
import json
import os
import sys
from contextlib import redirect_stdout
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "onehorizon.settings"
django.setup()

import tests.helpers  # noqa: E402, F401, imports what the code uses

barrier: Barrier  # a process inherits it, but can't receive it with a task


def run(code: str, number: int) -> str:
    """Run the code, whose variable `number` is the number of its process, and return its output."""
    output = io.StringIO()
    barrier.wait()
    with redirect_stdout(output):
        exec(code, {"number": number})  # noqa: S102, code of a test
    return output.getvalue()


def set_barrier(created: Barrier) -> None:
    global barrier
    barrier = created


if __name__ == "__main__":
    context, count, code = get_context("fork"), int(sys.argv[1]), sys.stdin.read()
    # Each process waits in its first task for all others, so none of them gets two.
    with context.Pool(count, set_barrier, [context.Barrier(count)]) as pool:
        outputs = pool.starmap(run, [(code, number) for number in range(count)], chunksize=1)
    sys.stdout.write(json.dumps(outputs))
