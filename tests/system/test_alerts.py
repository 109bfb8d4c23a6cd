"""The alert rules and the dashboard in docs/operations/: checked by promtool, and against the metrics of a server."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.db import connection
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from tests.helpers import commits, sign_in
from tests.processes import ROOT, TIMEOUT, fetch, program, server, wait_until
from tests.system.test_metrics import GRANIAN, metrics_urls, scrape, value
from workspaces.models import User

OPERATIONS = ROOT / "docs" / "operations"
RULES: list[dict[str, Any]] = yaml.safe_load((OPERATIONS / "alerts.yaml").read_text())["groups"][0]["rules"]
UNIT_TESTS: list[dict[str, Any]] = yaml.safe_load((OPERATIONS / "alerts_test.yaml").read_text())["tests"]

LAST_SUCCESS = "onehorizon_housekeeping_success_timestamp_seconds"
LAST_BACKUP = "onehorizon_backup_timestamp_seconds"
# The samples of a metric of each type, as Prometheus stores them.
ENDINGS = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}


@pytest.mark.one_database("runs promtool on files")
@pytest.mark.parametrize("arguments", [("check", "alerts.yaml"), ("test", "alerts_test.yaml")], ids=" ".join)
def test_promtool_accepts_the_rules(arguments: tuple[str, str]) -> None:
    promtool = program("promtool", install="apt-get install prometheus")
    command, file = arguments

    result = subprocess.run(
        [promtool, command, "rules", file], cwd=OPERATIONS, capture_output=True, text=True, timeout=TIMEOUT, check=False
    )

    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.one_database("reads files")
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_each_alert_has_a_severity_a_summary_and_unit_tests(rule: dict[str, Any]) -> None:
    assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"]["summary"].endswith(".")
    cases = [case for test in UNIT_TESTS for case in test["alert_rule_test"] if case["alertname"] == rule["alert"]]
    assert {bool(case["exp_alerts"]) for case in cases} == {True, False}, "it must fire in one test, and not in another"


def expressions() -> dict[str, str]:
    """Return the PromQL of each panel and alert, and the series of the unit tests, by name."""
    dashboard = json.loads((OPERATIONS / "grafana.json").read_text())
    panels = {panel["title"]: " ".join(target["expr"] for target in panel["targets"]) for panel in dashboard["panels"]}
    alerts = {rule["alert"]: rule["expr"] for rule in RULES}
    series = {test["name"]: " ".join(s["series"] for s in test.get("input_series", [])) for test in UNIT_TESTS}
    return panels | alerts | series


def last_backup(url: str) -> float:
    """Return the time of the newest backup, as the server exposes it."""
    return dict(scrape([url]))[LAST_BACKUP, frozenset()]


@commits
def test_panels_alerts_and_unit_tests_use_metrics_of_a_server_that_knows_the_last_housekeeping_and_backup(
    owner: User, tmp_path: Path
) -> None:
    sign_in(owner)
    Session.objects.update(expire_date=timezone.now())
    call_command("housekeeping")
    log, backups = tmp_path / "log", tmp_path / "backups"
    with server(log, METRICS_ADDRESS="127.0.0.1:0", BACKUP_DIR=str(backups)):
        (url,) = metrics_urls(log, 1)
        wait_until(lambda: value(scrape([url]), LAST_SUCCESS))
        samples = scrape([url])
        families = list(text_string_to_metric_families(fetch(url)[2].decode()))
        missing = last_backup(url)
        backups.mkdir()
        empty = last_backup(url)
        for name, time in [("1.dump", 1000), ("3.dump", 3000), ("2.sqlite3", 2000), ("4.dump.part", 4000)]:
            (backups / f"onehorizon-{name}").touch()
            os.utime(backups / f"onehorizon-{name}", (time, time))
        (backups / "notes").touch()
        (backups / "onehorizon-0.dump").symlink_to("deleted")  # listed, but not there, as a file deleted meanwhile
        newest = last_backup(url)
        backups.rename(tmp_path / "moved")
        backups.touch()
        unreadable = last_backup(url)

    assert (missing, empty, newest, unreadable) == (0, 0, 3000, 0)
    finished_at = value(samples, LAST_SUCCESS)
    assert 0 <= timezone.now().timestamp() - finished_at <= TIMEOUT
    assert value(samples, "onehorizon_housekeeping_rows", part="sessions") == 1
    exposed = {family.name + ending for family in families for ending in ENDINGS.get(family.type, [])}
    exposed |= {"up", *GRANIAN}
    if connection.vendor != "postgresql":  # only PostgreSQL has a pool
        exposed |= {f"onehorizon_pool_{name}" for name in ("size", "max", "in_use", "waiting")}
    used = {
        (title, metric)
        for title, expression in expressions().items()
        for metric in re.findall(r"\b(?:onehorizon|granian|process)_\w+|\bup\b", expression)
    }
    assert len(used) > len(RULES)
    assert {(title, metric) for title, metric in used if metric not in exposed} == set()
