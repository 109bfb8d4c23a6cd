"""schemathesis tests every operation of the OpenAPI document and follows its links, with every kind of credential."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from tests.helpers import commits, make_key, make_token, make_user, make_workspace
from tests.processes import ROOT, environment, server
from tests.system.fuzz.budget import LONG, SEED
from workspaces.models import Task, Tier

EXAMPLES = 200 if LONG else 2  # at most, per operation and seed; also the number of link sequences
CASES = 4_000 if LONG else 1  # at least, per credential: 20,000 in total
# "examples" and "coverage" have the same cases with every seed, so they run once.
RANDOM = ["fuzzing", "stateful"]


@pytest.fixture(scope="module")
def site(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with high limits, so that few requests fail because of a limit."""
    high_limits = {"APIKEYS_FAILURES_PER_MINUTE": "100000", "APIKEYS_MAX_ACTIVE": "200"}
    with server(tmp_path_factory.mktemp("fuzz") / "log", workers=1, **high_limits) as url:
        yield url


@commits
@pytest.mark.parametrize("credential", ["owner", "member", "outsider", "API key", "nobody"])
def test_no_response_is_outside_the_document(
    credential: str, site: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    owner, member, outsider = users = [make_user(name) for name in ("owner", "member", "outsider")]
    own, elsewhere = make_workspace(owner, member=member), make_workspace(outsider, slug="elsewhere")
    for workspace in (own, elsewhere):
        Task.objects.create_task(workspace, title="Ship")
    Tier.objects.update(requests=1000, seconds=1, burst_requests=1000, burst_seconds=1)
    bearers = dict(zip(("owner", "member", "outsider"), map(make_token, users), strict=True))
    bearers["API key"] = make_key(own)[1]
    ids = {"workspaces": ["current", own.pk, elsewhere.pk], "people": [user.pk for user in users]}
    people = {
        "FUZZ_USER": {"owner": owner.pk, "member": member.pk, "outsider": outsider.pk}.get(credential, ""),
        "FUZZ_MEMBERS": json.dumps([outsider.pk] if credential == "outsider" else [owner.pk, member.pk]),
    }

    authorization = f"Bearer {bearers[credential]}" if credential in bearers else ""
    # In the test suite, the 650 cases of "coverage" run only for an owner and a key, because the others get much the
    # same responses, and only on PostgreSQL, which rejects more values than SQLite.
    covers = credential in ("owner", "API key") and connection.vendor == "postgresql"
    coverage = ["coverage"] if LONG or covers else []
    cases, seed, phases = 0, SEED, ["examples", *coverage, *RANDOM]
    while cases < CASES:
        report = run_schemathesis(site, authorization, people, ids, tmp_path, seed, phases)
        assert report["operations"]["tested"] == report["operations"]["total"]
        cases += report["test_cases"]["generated"]
        seed, phases = seed + 1, RANDOM

    record_property("cases", (credential, cases))


def run_schemathesis(
    site: str,
    authorization: str,
    people: dict[str, str],
    ids: dict[str, list[str]],
    directory: Path,
    seed: int,
    phases: list[str],
) -> dict[str, Any]:
    """Run schemathesis with its default checks and our own, fail if a check fails, and return its report.

    `people` are environment variables of our hooks.
    """
    config, report_file = directory / "schemathesis.toml", directory / "report.json"
    dictionaries = "".join(f"\n[dictionaries.{name}]\nvalues = {json.dumps(values)}\n" for name, values in ids.items())
    config.write_text(Path(__file__).with_name("schemathesis.toml").read_text() + dictionaries)
    command = [str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(config), "run"]
    command += [f"{site}/api/v1/openapi.json", "--max-examples", str(EXAMPLES)]
    command += ["--phases", ",".join(phases), "--seed", str(seed), "--no-color"]
    command += ["--report", "json", "--report-json-path", str(report_file)]
    result = subprocess.run(
        command,
        cwd=ROOT,
        env=environment(
            SCHEMATHESIS_HOOKS="tests.system.fuzz.answers",
            FUZZ_AUTHORIZATION=authorization,
            **people,
        ),
        capture_output=True,
        text=True,
        timeout=3600,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    report: dict[str, Any] = json.loads(report_file.read_text())
    return report
