"""schemathesis tests every operation of the OpenAPI document and follows its links, as every kind of caller."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import commits, make_key, make_token, make_user, make_workspace
from tests.processes import ROOT, environment, server
from tests.system.fuzz.budget import LONG, SEED
from workspaces.models import Task, Tier

EXAMPLES = 200 if LONG else 2  # of each operation in a round, at most; and as many walks
CASES = 4_000 if LONG else 1  # as each, at least: 20,000 in all
ONCE = ["examples", "coverage"] if LONG else ["examples"]  # what is the same with each seed; the second takes a minute
EACH = ["fuzzing", "stateful"]


@pytest.fixture(scope="module")
def site(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server whose limits, which have tests of their own, don't answer nearly everything."""
    roomy = {"APIKEYS_FAILURES_PER_MINUTE": "100000", "APIKEYS_MAX_ACTIVE": "200"}
    with server(tmp_path_factory.mktemp("fuzz") / "log", workers=1, **roomy) as address:
        yield address


@commits
@pytest.mark.parametrize("who", ["owner", "member", "outsider", "API key", "nobody"])
def test_no_response_is_outside_the_document(
    who: str, site: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    owner, member, outsider = people = [make_user(name) for name in ("owner", "member", "outsider")]
    here, elsewhere = make_workspace(owner, member=member), make_workspace(outsider, slug="elsewhere")
    for workspace in (here, elsewhere):
        Task.objects.create_task(workspace, title="Ship")
    Tier.objects.update(requests=1000, seconds=1, burst_requests=1000, burst_seconds=1)
    bearers = dict(zip(("owner", "member", "outsider"), map(make_token, people), strict=True))
    bearers["API key"] = make_key(here)[1]
    ids = {"workspaces": ["current", here.pk, elsewhere.pk], "people": [person.pk for person in people]}

    cases, seed, phases = 0, SEED, ONCE + EACH
    while cases < CASES:
        tried = try_document(site, f"Bearer {bearers[who]}" if who in bearers else "", ids, tmp_path, seed, phases)
        assert tried["operations"]["tested"] == tried["operations"]["total"]
        cases += tried["test_cases"]["generated"]
        seed, phases = seed + 1, EACH

    record_property("cases", (who, cases))


def try_document(
    site: str, authorization: str, ids: dict[str, list[str]], directory: Path, seed: int, phases: list[str]
) -> dict[str, Any]:
    """What schemathesis reports of a run in which nothing failed."""
    config, report = directory / "schemathesis.toml", directory / "report.json"
    dictionaries = "".join(f"\n[dictionaries.{name}]\nvalues = {json.dumps(values)}\n" for name, values in ids.items())
    config.write_text(Path(__file__).with_name("schemathesis.toml").read_text() + dictionaries)
    command = [str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(config), "run"]
    command += [f"{site}/api/v1/openapi.json", "--url", site, "--max-examples", str(EXAMPLES)]
    command += ["--phases", ",".join(phases), "--seed", str(seed), "--no-color"]
    command += ["--report", "json", "--report-json-path", str(report)]
    ran = subprocess.run(
        command,
        cwd=ROOT,
        env=environment(SCHEMATHESIS_HOOKS="tests.system.fuzz.answers", FUZZ_AUTHORIZATION=authorization),
        capture_output=True,
        text=True,
        timeout=3600,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    reported: dict[str, Any] = json.loads(report.read_text())
    return reported
