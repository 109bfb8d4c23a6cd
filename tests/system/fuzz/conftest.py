"""Prints the number of cases at the end of the run."""

from __future__ import annotations

import pytest

from tests.system.fuzz.budget import SEED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    counts: dict[str, list[tuple[str, int]]] = {"cases": [], "executions": []}
    for report in terminalreporter.getreports("passed"):
        for name, count in report.user_properties:
            if name in counts:
                counts[name].append(count)
    failed = len(terminalreporter.getreports("failed")) + len(terminalreporter.getreports("error"))
    for name, tool in (("cases", "schemathesis"), ("executions", "atheris")):
        if counts[name]:
            total = sum(number for _, number in counts[name])
            details = ", ".join(f"{target} {number:,}" for target, number in counts[name])
            terminalreporter.write_line(f"fuzz: {total:,} {name} by {tool} ({details}), {failed} failures, seed {SEED}")
