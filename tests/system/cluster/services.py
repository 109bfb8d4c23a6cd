"""Services that an installation consists of."""

from __future__ import annotations

import subprocess
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.processes import process, wait_until_listening


@dataclass
class Service:
    """A process that listens on a port."""

    command: list[str]
    port: int
    log: Path
    process: subprocess.Popen[bytes] = field(init=False)
    _stack: ExitStack = field(default_factory=ExitStack)

    def start(self) -> None:
        self.process = self._stack.enter_context(process(self.command, self.log))
        wait_until_listening(self.port, self.process, self.log)

    def stop(self) -> None:
        self._stack.close()
