"""The line that tells, at the end, how much was tried."""

from __future__ import annotations

import pytest

from tests.system.fuzz.budget import SEED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    told: dict[str, list[tuple[str, int]]] = {"cases": [], "executions": []}
    for report in terminalreporter.getreports("passed"):
        for name, counted in report.user_properties:
            if name in told:
                told[name].append(counted)
    failed = len(terminalreporter.getreports("failed")) + len(terminalreporter.getreports("error"))
    for name, by in (("cases", "schemathesis"), ("executions", "atheris")):
        if told[name]:
            total = sum(number for _, number in told[name])
            each = ", ".join(f"{what} {number:,}" for what, number in told[name])
            terminalreporter.write_line(f"fuzz: {total:,} {name} by {by} ({each}), {failed} failures, seed {SEED}")
