"""The sweep fails a test that leaks a secret."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import ROOT, TIMEOUT, environment


@pytest.mark.one_database("always uses SQLite")
def test_a_test_that_leaks_fails(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "tests/system/leaky.py", "-p", "no:cacheprovider"],
        cwd=ROOT,
        env=environment(DATABASE_URL=f"sqlite:///{tmp_path / 'leaky'}"),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )

    assert "1 passed, 1 error" in run.stdout, run.stdout + run.stderr
    assert "API key in workspaces_user" in run.stdout
