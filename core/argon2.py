"""Bounds the Argon2 runs that anyone can cause: of passwords and of OAuth client secrets."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings


class TooBusy(Exception):
    """Argon2 already uses its share of this process's threads. Retry after `wait` seconds."""

    wait = 5
    cause = "busy"  # of the 503, in the log and the metrics

    def __init__(self) -> None:
        super().__init__("Too many passwords and client secrets are being checked, retry shortly.")


class ThreadShare:
    """Bounds the threads of this process that run Argon2 or wait to run it: to `threads` on average.

    At most `runs` of them run Argon2 at a time. A burst may use up to twice as many threads, until they have taken
    `burst` seconds more than `threads` threads would have. So people who sign in at the same moment wait for each
    other, and a flood of sign-ins leaves threads for other requests.
    """

    def __init__(self, *, runs: int, threads: int, burst: float) -> None:
        self._turn = threading.BoundedSemaphore(runs)
        self._threads = threads
        self._burst = burst
        self._lock = threading.Lock()
        self._inside = 0  # how many threads run or wait
        self._unused = burst  # seconds of one thread that a burst may still take
        self._updated = time.monotonic()

    @contextmanager
    def run(self) -> Iterator[None]:
        """Run Argon2 in this block. May wait for other runs first. Raise `TooBusy` if the share is taken."""
        with self._lock:
            self._update()
            if self._inside >= 2 * self._threads or self._unused < 0:
                raise TooBusy
            self._inside += 1
        try:
            with self._turn:
                yield
        finally:
            with self._lock:
                self._update()
                self._inside -= 1

    def _update(self) -> None:
        now = time.monotonic()
        self._unused += (now - self._updated) * (self._threads - self._inside)
        self._unused = min(self._unused, self._burst)
        self._updated = now


# API keys are not included: a wrong one never reaches Argon2 (see apikeys.hashing).
password_share = ThreadShare(runs=os.cpu_count() or 1, threads=max(settings.SERVER_THREADS // 2, 1), burst=2)
