"""With DEBUG off, unsafe settings stop every command and server, and risky ones cause a warning."""

from __future__ import annotations

import secrets
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from tests.onehorizon.test_settings import read_settings
from tests.processes import ROOT, TIMEOUT, environment, free_port, manage
from tests.system.conftest import PRODUCTION, static_files_in

pytestmark = pytest.mark.one_database("uses no database, or one of its own")

WEAK = ["   ", "short", secrets.token_urlsafe(50)[:49], "ab" * 40, f"django-insecure-{secrets.token_urlsafe(50)}"]
REJECTED = [
    *[{"SECRET_KEY": key} for key in WEAK],
    *[{"SECRET_KEY_FALLBACKS": f"{secrets.token_urlsafe(50)},{key}"} for key in WEAK[1:]],
    {"ALLOWED_HOSTS": "*"},
    {"ALLOWED_HOSTS": "onehorizon.example, *"},
    {"DEBUG": "on", "ENVIRONMENT": "production"},
    {"DATABASE_URL": "sqlite:////tmp/onehorizon.sqlite3", "GRANIAN_WORKERS": "2"},
]


def serve(*options: str, **overrides: str) -> str:
    """Run granian with settings that stop it, and return its output."""
    command = [str(Path(sys.executable).with_name("granian")), "--interface", "wsgi", "--host", "127.0.0.1"]
    result = subprocess.run(
        [*command, "--port", str(free_port()), *options, "onehorizon.wsgi:application"],
        cwd=ROOT,
        env=environment(**overrides),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert result.returncode != 0
    assert "Traceback" not in result.stdout
    return result.stdout


def load(**overrides: str) -> subprocess.CompletedProcess[str]:
    """Import the application in a process, as a server does."""
    return subprocess.run(
        [sys.executable, "-c", "import onehorizon.wsgi"],
        cwd=ROOT,
        env=environment(**PRODUCTION | overrides),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


def test_production_passes_djangos_deployment_checks_and_our_own() -> None:
    result = manage("check", "--deploy", "--fail-level", "WARNING", **PRODUCTION)

    assert result.returncode == 0, result.stderr
    assert "System check identified no issues" in result.stdout + result.stderr


@pytest.mark.parametrize("unsafe", REJECTED, ids=lambda unsafe: "-".join(unsafe))
def test_unsafe_settings_are_rejected_with_one_sentence_without_secrets(
    unsafe: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ImproperlyConfigured, match=rf"\A{next(iter(unsafe))} must [^\n]*\Z") as error:
        read_settings(monkeypatch, **PRODUCTION | unsafe)

    assert not [key for key in WEAK if key in str(error.value)]


def test_unsafe_settings_stop_a_command() -> None:
    result = manage("migrate", **PRODUCTION | {"ALLOWED_HOSTS": "*"})

    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        "onehorizon: ALLOWED_HOSTS must list this site's hosts when DEBUG is off; * allows every host.\n"
    )


def test_a_forgotten_debug_stops_a_command() -> None:
    others = {name: value for name, value in PRODUCTION.items() if name != "DEBUG"}
    result = manage("migrate", **others, DEBUG=None)

    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        "onehorizon: DEBUG must be set when ALLOWED_HOSTS is: off in production, on for development.\n"
    )


def test_unsafe_settings_stop_a_server_process() -> None:
    result = load(SECRET_KEY="short")

    assert result.returncode == 1
    assert result.stderr == "onehorizon: SECRET_KEY must be 50 random characters or more when DEBUG is off.\n"


@pytest.mark.parametrize("options", [["--workers", "2"], ["--workers=2"]])
def test_granian_with_several_workers_rejects_sqlite(options: list[str], tmp_path: Path) -> None:
    output = serve(*options, **PRODUCTION | {"DATABASE_URL": f"sqlite:///{tmp_path}/db.sqlite3"})

    assert "onehorizon: DATABASE_URL must be a postgres:// URL for several workers; SQLite supports one." in output


def test_granian_does_not_start_with_a_weak_key() -> None:
    assert "onehorizon: SECRET_KEY must be 50 random characters" in serve(**PRODUCTION | {"SECRET_KEY": "short"})


@pytest.mark.parametrize("workers", [{}, {"GRANIAN_WORKERS": "1"}])
def test_one_worker_accepts_sqlite(workers: dict[str, str], tmp_path: Path, collected: dict[str, str]) -> None:
    result = load(DATABASE_URL=f"sqlite:///{tmp_path}/db.sqlite3", **workers, **collected)

    assert (result.returncode, "onehorizon" in result.stderr.replace(str(ROOT), "")) == (0, False)


def test_several_workers_accept_postgresql(collected: dict[str, str]) -> None:
    assert load(GRANIAN_WORKERS="4", **collected).returncode == 0


def test_a_server_does_not_start_without_static_files(tmp_path: Path) -> None:
    output = serve(**PRODUCTION | static_files_in(tmp_path))

    assert "onehorizon: Static files are missing or old: run manage.py collectstatic --no-input.\n" in output


def test_a_command_needs_no_static_files(tmp_path: Path) -> None:
    assert manage("check", **PRODUCTION | static_files_in(tmp_path)).returncode == 0


@pytest.mark.parametrize("url", ["", "locmem://", "dummy://"])
def test_a_cache_per_process_causes_a_warning_from_the_check_and_the_server(
    url: str, collected: dict[str, str]
) -> None:
    checked = manage("check", "--deploy", **PRODUCTION | {"CACHE_URL": url})
    loaded = load(CACHE_URL=url, **collected)

    assert "(onehorizon.W001) CACHE_URL is not a shared cache" in checked.stderr
    assert (checked.returncode, loaded.returncode) == (0, 0)
    assert "CACHE_URL is not a shared cache" in loaded.stderr


def test_with_debug_on_unsafe_settings_are_accepted(tmp_path: Path) -> None:
    unsafe = {"DEBUG": "on", "SECRET_KEY": "short", "ALLOWED_HOSTS": "*", "GRANIAN_WORKERS": "2", "CACHE_URL": ""}

    assert manage("check", **unsafe, DATABASE_URL=f"sqlite:///{tmp_path}/db.sqlite3").returncode == 0
