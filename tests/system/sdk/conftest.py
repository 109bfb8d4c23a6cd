from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from sdk.generate import PACKAGE, SERVED
from tests.processes import TIMEOUT, program

Run = Callable[..., str]


@pytest.fixture(scope="session")
def project(site: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the SDK installed from the site, as the guide shows, and with the SDK's tests."""
    npm = program("npm", install="apt-get install nodejs npm (or your system's equivalent)")
    directory = tmp_path_factory.mktemp("project")
    (served,) = SERVED.glob("*.tgz")
    shutil.copytree(PACKAGE / "test", directory, dirs_exist_ok=True)
    (directory / "package.json").write_text('{"type": "module"}')
    subprocess.run(
        [npm, "install", f"{site}/static/sdk/{served.name}"],
        cwd=directory,
        env=os.environ | {"npm_config_registry": "http://127.0.0.1:9/"},  # unreachable: the package has no dependencies
        check=True,
        timeout=TIMEOUT,
    )
    return directory


@pytest.fixture
def run(project: Path, site: str) -> Run:
    """`run("node", "x.js")` runs a program in the project and returns its output."""

    def run(*arguments: str, **variables: str) -> str:
        name, *rest = arguments
        completed = subprocess.run(
            [program(name, install="apt-get install nodejs (or your system's equivalent)"), *rest],
            cwd=project,
            env=os.environ | {"SITE": site} | variables,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        assert completed.returncode == 0, completed.stdout + completed.stderr
        return completed.stdout

    return run
