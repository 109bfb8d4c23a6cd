"""The OpenAPI document passes its generator's checks and a linter."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from onehorizon.openapi import schema
from tests.processes import ROOT, TIMEOUT, manage, program

pytestmark = pytest.mark.one_database("uses no database")


def test_the_generator_has_no_warnings(tmp_path: Path) -> None:
    result = manage(
        "spectacular", "--fail-on-warn", "--validate", "--format=openapi-json", f"--file={tmp_path / 'openapi.json'}"
    )

    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "openapi.json").read_text()) == schema()


def test_redocly_finds_no_error(tmp_path: Path) -> None:
    redocly = program(str(ROOT / "tests/tools/node_modules/.bin/redocly"), install="make tools (with Node.js and npm)")
    (tmp_path / "openapi.json").write_text(json.dumps(schema()))

    linted = subprocess.run(
        [redocly, "lint", "--format=json", "openapi.json"],
        cwd=tmp_path,
        env=os.environ | {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )

    assert linted.returncode == 0, linted.stdout
    assert json.loads(linted.stdout)["totals"]["errors"] == 0
