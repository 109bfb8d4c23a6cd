from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from argon2 import PasswordHasher

from tests.processes import TIMEOUT


class Argon2Runs:
    """Counts the runs of Argon2 and how many of them are concurrent."""

    def __init__(self) -> None:
        self.count = self.max_concurrent = self._running = 0
        self.required_concurrency = 0  # each run waits until this many run at the same time
        self.extra_seconds = 0.0  # added to each run
        self._changed = threading.Condition()

    def watch(self, run: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any) -> Any:
            with self._changed:
                self.count += 1
                self._running += 1
                self.max_concurrent = max(self.max_concurrent, self._running)
                self._changed.notify_all()
                self._changed.wait_for(lambda: self.max_concurrent >= self.required_concurrency, TIMEOUT)
            try:
                time.sleep(self.extra_seconds)
                return run(*arguments)
            finally:
                with self._changed:
                    self._running -= 1

        return watched


@pytest.fixture
def argon2_runs(monkeypatch: pytest.MonkeyPatch) -> Argon2Runs:
    runs = Argon2Runs()
    monkeypatch.setattr(PasswordHasher, "hash", runs.watch(PasswordHasher.hash))
    monkeypatch.setattr(PasswordHasher, "verify", runs.watch(PasswordHasher.verify))
    return runs
