"""Services that an installation consists of, and the files of `deploy/`."""

from __future__ import annotations

import re
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.processes import ROOT, process, wait_until_listening


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


def substitute(path: str, replacements: dict[str, str]) -> str:
    """Return a file of `deploy/` with each of these patterns replaced. Each must occur in it."""
    text = (ROOT / path).read_text()
    for pattern, replacement in replacements.items():
        text, count = re.subn(pattern, replacement, text, flags=re.MULTILINE)
        assert count, f"{pattern} is not in {path}"
    return text
