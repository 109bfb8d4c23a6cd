"""Runs atheris on each target. Only `make fuzz` runs this file, because it needs `requirements/fuzz.lock`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers import commits, make_key, make_token, make_user, make_workspace
from tests.processes import ROOT, environment
from tests.system.fuzz.budget import SEED
from tests.system.fuzz.strategies import MALFORMED
from workspaces.ids import new_id
from workspaces.models import Tier

SECONDS = int(os.environ.get("FUZZ_SECONDS", "60"))  # per target
BODY = json.dumps({"description": "CI", "expiresAt": "2040-01-01T00:00:00+01:00"}).encode()


@commits
@pytest.mark.parametrize("target", ["bearer", "header", "identifier", "query", "body", "request"])
def test_no_input_that_atheris_finds_breaks_a_parser(
    target: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    owner = make_user("owner")
    workspace = make_workspace(owner)
    Tier.objects.update(requests=10_000, seconds=1, burst_requests=10_000, burst_seconds=1)
    seeds = {
        "bearer": [make_key(workspace)[1].encode(), make_key(workspace)[1][:-6].encode()],
        "header": [b"203.0.113.7, 10.0.0.1\n127.0.0.1", b"2001:db8::7,::ffff:10.1.1.1%0"],
        "identifier": [new_id("tsk").encode(), b"tsk_"],
        "query": [f"status=open&limit=5&cursor={new_id('tsk')}&all=true&userId={owner.pk}".encode(), b"limit=%00"],
        "body": [BODY, *(body for body in MALFORMED if len(body) < 1_000)],
        "request": [BODY, b'{"title":"Ship","contributors":[{"userId":"u_","type":"reviewer"}]}'],
    }
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(seeds[target]):
        (corpus / str(number)).write_bytes(seed)

    command = [sys.executable, "-m", "tests.system.fuzz.targets", target, str(corpus), f"-artifact_prefix={tmp_path}/"]
    command += [f"-max_total_time={SECONDS}", f"-seed={SEED}", "-max_len=4096", "-timeout=20", "-print_final_stats=1"]
    high_limits = {"APIKEYS_FAILURES_PER_MINUTE": "100000", "APIKEYS_MAX_ACTIVE": "200", "TRUSTED_PROXIES": "127.0.0.1"}
    with (tmp_path / "log").open("wb") as log:
        result = subprocess.run(
            command,
            cwd=ROOT,
            env=environment(FUZZ_AUTHORIZATION=f"Bearer {make_token(owner)}", **high_limits),
            stdout=log,
            stderr=subprocess.STDOUT,
            timeout=SECONDS + 300,
            check=False,
        )

    output = (tmp_path / "log").read_text(errors="replace")
    assert result.returncode == 0, output[-10_000:]
    executed = re.search(r"stat::number_of_executed_units:\s*(\d+)", output)
    assert executed is not None, output[-10_000:]
    record_property("executions", (target, int(executed[1])))
