"""Time limits of PostgreSQL apply to servers, whatever DATABASE_URL and PGOPTIONS set, but not to commands."""

from __future__ import annotations

import subprocess
import sys

import pytest
from django.db import connection

from tests.processes import ROOT, TIMEOUT, database_url, environment

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no such limits"),
]
LIMITS = ["10s", "1s", "15s"]

SHOW = """
from django.db import connection
with connection.cursor() as cursor:
    for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "work_mem", "search_path"):
        cursor.execute(f"SHOW {name}")
        print(cursor.fetchone()[0])
"""


def settings_after(setup: str, parameters: str = "", **overrides: str) -> list[str]:
    """Return the settings of a PostgreSQL connection in a process that ran the code `setup`."""
    result = subprocess.run(
        [sys.executable, "-c", setup + SHOW],
        cwd=ROOT,
        env=environment(DATABASE_URL=database_url() + parameters, **overrides),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def settings_of_a_server(parameters: str = "", **overrides: str) -> list[str]:
    return settings_after("import onehorizon.wsgi", parameters, **overrides)


def test_a_server_has_the_time_limits() -> None:
    assert settings_of_a_server()[:3] == LIMITS


@pytest.mark.parametrize("parameters", ["", "?application_name=web"])
def test_other_options_of_pgoptions_apply_too(parameters: str) -> None:
    values = settings_of_a_server(parameters, PGOPTIONS="-c statement_timeout=0 -c work_mem=1MB")

    assert values[:4] == [*LIMITS, "1MB"]


def test_options_in_the_url_do_not_lift_the_time_limits() -> None:
    values = settings_of_a_server("?options=-c%20statement_timeout%3D0%20-c%20work_mem%3D1MB")

    assert values[:4] == [*LIMITS, "1MB"]


def test_a_schema_in_the_url_does_not_lift_the_time_limits() -> None:
    values = settings_of_a_server("?currentSchema=elsewhere")

    assert (values[:3], values[4]) == (LIMITS, "elsewhere")


def test_a_command_has_no_time_limits() -> None:
    setup = "import os, django; os.environ['DJANGO_SETTINGS_MODULE'] = 'onehorizon.settings'; django.setup()"

    assert settings_after(setup)[:3] == ["0", "0", "0"]
