"""Commands and servers with invalid settings, and the SECRET_KEY that is generated for development."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.processes import ROOT, TIMEOUT, environment, free_port, manage

pytestmark = pytest.mark.one_database("uses no database")


@pytest.mark.parametrize(("name", "value"), [("DEBUG", "maybe"), ("APIKEYS_MAX_ACTIVE", "0"), ("DATABASE_URL", "x")])
def test_a_command_with_an_invalid_setting_prints_one_sentence(name: str, value: str) -> None:
    result = manage("migrate", **{name: value})

    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(f'onehorizon: Environment variable "{name}" invalid: ')
    assert result.stderr.count("\n") == 1


def test_a_server_with_an_invalid_setting_prints_one_sentence() -> None:
    granian = [str(Path(sys.executable).with_name("granian")), "--interface", "wsgi", "--host", "127.0.0.1"]
    result = subprocess.run(
        [*granian, "--port", str(free_port()), "--workers", "2", "onehorizon.wsgi:application"],
        cwd=ROOT,
        env=environment(APIKEYS_MAX_ACTIVE="0"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT,
    )

    lines = [line for line in result.stdout.splitlines() if line.startswith("onehorizon: ")]
    assert result.returncode != 0
    assert lines
    assert all("APIKEYS_MAX_ACTIVE" in line for line in lines)
    assert "Traceback" not in result.stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the settings, as in a fresh checkout without var/."""
    shutil.copytree(ROOT / "onehorizon", tmp_path / "onehorizon", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def secret_key(checkout: Path) -> str:
    variables = {name: value for name, value in os.environ.items() if name not in ("SECRET_KEY", "DATABASE_URL")}
    result = subprocess.run(
        [sys.executable, "-c", "from onehorizon import settings; print(settings.SECRET_KEY)"],
        cwd=checkout,
        env=variables | {"DEBUG": "on"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_processes_that_start_at_once_share_one_development_key(checkout: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        keys = set(threads.map(secret_key, [checkout] * 8))

    assert len(keys) == 1
    assert len(keys.pop()) >= 50
    assert [file.name for file in (checkout / "var").iterdir()] == ["secret_key"]


def test_the_development_key_is_stored_in_a_file_that_only_its_owner_can_read(checkout: Path) -> None:
    umask = os.umask(0)
    try:
        first = secret_key(checkout)
    finally:
        os.umask(umask)

    stored = checkout / "var" / "secret_key"
    assert stat.S_IMODE(stored.stat().st_mode) == 0o600
    assert (stored.read_text(), secret_key(checkout)) == (first, first)


def test_two_checkouts_have_two_keys(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    shutil.copytree(checkout / "onehorizon", other / "onehorizon")

    assert secret_key(checkout) != secret_key(other)
