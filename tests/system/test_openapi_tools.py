"""The OpenAPI document passes its generator's checks and two linters."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

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


def run_tool(name: str, *arguments: str, directory: Path) -> Any:
    """Run a linter from npm on the document in this directory, and return its report. Fail if it finds anything."""
    tool = program(str(ROOT / f"tests/tools/node_modules/.bin/{name}"), install="make tools (with Node.js and npm)")
    (directory / "openapi.json").write_text(json.dumps(schema()))
    linted = subprocess.run(
        [tool, "lint", "--format=json", *arguments, "openapi.json"],
        cwd=directory,
        env=os.environ | {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert linted.returncode == 0, linted.stdout + linted.stderr
    return json.loads(linted.stdout)


def test_redocly_finds_nothing(tmp_path: Path) -> None:
    report = run_tool("redocly", "--extends=recommended-strict", directory=tmp_path)

    assert report["totals"] == {"errors": 0, "warnings": 0, "ignored": 0}


def test_spectral_finds_nothing(tmp_path: Path) -> None:
    (tmp_path / "ruleset.yaml").write_text("extends: [[spectral:oas, all]]")

    assert run_tool("spectral", "--quiet", "--fail-severity=hint", "--ruleset=ruleset.yaml", directory=tmp_path) == []
