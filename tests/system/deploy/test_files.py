"""The files in deploy/, and the documents that show how to install them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
import yaml
from django.db import connection
from dotenv import dotenv_values

from onehorizon.backup_metrics import newest_backup
from tests.onehorizon.test_settings import read_settings
from tests.processes import ROOT, TIMEOUT, database_url, environment, program
from tests.system.conftest import PRODUCTION
from tests.system.deploy.conftest import command_line, settings

DEPLOY, UNITS = ROOT / "deploy", ROOT / "deploy/systemd"
DOCUMENT = ROOT / "docs/deploy.md"
ALERTS = ROOT / "docs/operations/alerts.yaml"
one_database = pytest.mark.one_database("uses no database")


def granian_options(path: Path) -> list[list[str]]:
    """Return the options of each command line of granian in this file, with or without JSON's quotes."""
    text = re.sub(r'[\\",\s]+', " ", path.read_text())
    found = re.findall(r"granian (--interface wsgi .*?) onehorizon\.wsgi:application", text)
    return [options.replace("--host 0.0.0.0 ", "").split() for options in found]


@one_database
def test_every_command_line_of_granian_has_the_same_options() -> None:
    (expected,) = granian_options(UNITS / "onehorizon-web.service")
    for name in ("README.md", "docs/operations.md", "deploy/container/Containerfile"):
        assert granian_options(ROOT / name) == [expected], name
    assert float(expected[expected.index("--respawn-interval") + 1]) >= 20


@one_database
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    """Their programs must exist, so the paths are those of this checkout."""
    analyze = program("systemd-analyze", install="apt-get install systemd")
    shutil.copytree(UNITS, tmp_path, dirs_exist_ok=True)
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        here = path.read_text().replace("/opt/onehorizon/.venv/bin", str(Path(sys.executable).parent))
        path.write_text(here.replace("/opt/onehorizon", str(ROOT)))
    units = [str(path) for path in sorted(tmp_path.glob("*.*")) if path.is_file()]
    verified = subprocess.run(
        [analyze, "verify", "--man=no", *units],
        env=os.environ | {"SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )

    assert (verified.returncode, verified.stderr) == (0, "")


@one_database
def test_a_stop_waits_for_a_reload_in_progress() -> None:
    """During a reload, granian waits `--respawn-interval` seconds for each worker before it handles a stop."""
    options = command_line(UNITS / "onehorizon-web.service")
    interval, workers, kill = (
        int(options[options.index(name) + 1]) for name in ("--respawn-interval", "--workers", "--workers-kill-timeout")
    )
    (stop,) = settings(UNITS / "onehorizon-web.service", "TimeoutStopSec")

    assert int(stop) >= workers * interval + 2 * kill


@one_database
@pytest.mark.parametrize("path", ["environment.example", "container/environment.example"])
def test_the_environment_is_valid_once_it_has_a_secret_key(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variables = dotenv_values(DEPLOY / path)
    documented = re.findall(r"`([A-Z_0-9]+)`", (ROOT / "README.md").read_text())

    assert variables.keys() <= set(documented)
    assert variables["SECRET_KEY"] == ""
    values = {name: value or PRODUCTION["SECRET_KEY"] for name, value in variables.items()}
    assert read_settings(monkeypatch, **values)["DEBUG"] is False


@one_database
def test_the_services_may_write_to_the_directories_of_the_environment() -> None:
    """With `ProtectSystem=strict`, everything but their state directory is read-only."""
    (state,) = settings(UNITS / "onehorizon-.service.d/common.conf", "StateDirectory")
    variables = dotenv_values(DEPLOY / "environment.example")

    for name in ("AUDIT_ARCHIVE_DIR", "BACKUP_DIR"):
        assert Path(str(variables[name])).parent == Path("/var/lib", state), name


@one_database
def test_the_image_has_every_file_that_the_application_reads(tmp_path: Path) -> None:
    lines = (DEPLOY / "container/Containerfile.dockerignore").read_text().splitlines()
    assert lines[1] == "**"
    for name in (line[1:].rstrip("/") for line in lines if line.startswith("!")):
        target = tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, target)
    checked = subprocess.run(
        [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"],
        cwd=tmp_path,
        env=environment(**PRODUCTION),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )

    assert checked.returncode == 0, checked.stderr


@one_database
def test_the_containers_use_the_files_next_to_them() -> None:
    compose = yaml.safe_load((DEPLOY / "container/compose.yaml").read_text())
    networks, proxy = compose["networks"], compose["services"]["proxy"]
    mounted = [volume.partition(":")[0] for volume in proxy["volumes"] if volume.startswith(".")]

    assert [(DEPLOY / "container" / path).exists() for path in mounted] == [True] * 2
    assert (ROOT / "deploy/container" / compose["services"]["web"]["build"]["context"] / "manage.py").exists()
    trusted = dotenv_values(DEPLOY / "container/environment.example")["TRUSTED_PROXIES"]
    assert proxy["networks"]["proxy"]["ipv4_address"] == trusted
    assert networks["proxy"]["ipam"]["config"][0]["subnet"] == "172.30.0.0/24"


@one_database
def test_the_document_names_every_file_and_no_other() -> None:
    """It shows commands that copy or run them."""
    named = set(re.findall(r"deploy/[\w./-]*[\w]", DOCUMENT.read_text()))
    files = {str(path.relative_to(ROOT)) for path in DEPLOY.rglob("*") if path.is_file()}

    assert [name for name in named if not (ROOT / name).exists()] == []
    missing = {path for path in files if not any(path == name or path.startswith(f"{name}/") for name in named)}
    assert missing == set()


@one_database
def test_prometheus_scrapes_the_ports_of_the_environment(tmp_path: Path) -> None:
    """Twice as many as there are workers: during a reload, the old ones still have theirs."""
    promtool = program("promtool", install="apt-get install prometheus")
    (text,) = re.findall(r"```yaml\n(rule_files:.*?)```", DOCUMENT.read_text(), re.DOTALL)
    (tmp_path / "prometheus.yml").write_text(text.replace("/etc/prometheus/onehorizon.yaml", str(ALERTS)))
    checked = subprocess.run(
        [promtool, "check", "config", "prometheus.yml"], cwd=tmp_path, capture_output=True, text=True, timeout=TIMEOUT
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr

    jobs = yaml.safe_load(text)["scrape_configs"]
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in jobs}
    variables = dotenv_values(DEPLOY / "environment.example")
    host, first = str(variables["METRICS_ADDRESS"]).split(":")
    options = command_line(UNITS / "onehorizon-web.service")
    workers = int(options[options.index("--workers") + 1])
    assert targets == {
        "onehorizon": [f"{host}:{int(first) + number}" for number in range(2 * workers)],
        "granian": [f"{host}:{variables['GRANIAN_METRICS_PORT']}"],
    }
    assert variables["GRANIAN_METRICS_ENABLED"] == "true"


@one_database
def test_the_handbook_says_what_to_do_for_each_alert() -> None:
    section = (
        (ROOT / "docs/operations.md").read_text().partition("### What to do for each alert")[2].partition("\n## ")[0]
    )
    documented = [
        (name, severity)
        for names, severity in re.findall(r"^\| (`OneHorizon.*?) \| (\w+) \|", section, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", names)
    ]
    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]

    assert sorted(documented) == sorted((rule["alert"], rule["labels"]["severity"]) for rule in group["rules"])


# ---- backups ----


def backup(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    assert command_line(UNITS / "onehorizon-backup.service") == ["/opt/onehorizon/deploy/backup"]
    return subprocess.run(
        [str(DEPLOY / "backup"), *arguments],
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )


@pytest.mark.django_db
def test_a_backup_can_be_restored_and_replaces_old_ones(tmp_path: Path) -> None:
    for name in ("pg_dump", "psql") if connection.vendor == "postgresql" else ("sqlite3",):
        program(name, install="apt-get install postgresql-client sqlite3")
    old, recent, other = (tmp_path / name for name in ("onehorizon-1.dump", "onehorizon-2.dump", "notes"))
    for path, days in ((old, 20), (recent, 5), (other, 20)):
        path.touch()
        os.utime(path, (path.stat().st_mtime - days * 86400,) * 2)

    result = backup(BACKUP_DIR=str(tmp_path))

    assert result.returncode == 0, result.stderr
    created = Path(result.stdout.strip())
    assert created.stat().st_mode & 0o777 == 0o600
    assert set(tmp_path.iterdir()) == {created, recent, other}
    assert newest_backup(tmp_path) == created.stat().st_mtime
    assert restored_migrations(created) > 30


def restored_migrations(created: Path) -> int:
    """Restore a backup into a new database and return its number of migrations."""
    count = "SELECT count(*) FROM django_migrations"
    if connection.vendor == "sqlite":
        return int(subprocess.check_output(["sqlite3", str(created), count]))
    name = f"{connection.settings_dict['NAME']}_restored"
    with psycopg.connect(database_url(), autocommit=True) as postgresql:
        postgresql.execute(f'CREATE DATABASE "{name}"')
        try:
            url = database_url().rpartition("/")[0] + f"/{name}"
            subprocess.run(["pg_restore", "--exit-on-error", "--dbname", url, str(created)], check=True)
            with psycopg.connect(url) as restored:
                row = restored.execute(count).fetchone()
        finally:
            postgresql.execute(f'DROP DATABASE "{name}"')
    return row[0] if row else 0


@one_database
def test_a_failed_backup_is_an_error_and_leaves_no_dump(tmp_path: Path) -> None:
    configured, given = tmp_path / "configured", tmp_path / "given"
    failed = backup(BACKUP_DIR=str(configured), DATABASE_URL="sqlite:////nonexistent/onehorizon.sqlite3")
    unknown = backup(str(given), BACKUP_DIR=str(tmp_path / "ignored"), DATABASE_URL="mysql://127.0.0.1/onehorizon")

    assert failed.returncode != 0
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert unknown.stderr == "backup: DATABASE_URL must be a postgres:// or sqlite:/// URL.\n"
    assert set(tmp_path.rglob("*")) == {configured, given}
