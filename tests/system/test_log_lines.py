"""The log of a server in production: JSON lines that name the request, its principal, and the reason of a rejection."""

from __future__ import annotations

import json
import re
import secrets
import subprocess
import sys
import textwrap
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone
from oauth2_provider.models import AccessToken

from apikeys import keys
from apikeys.models import ApiKey
from tests.helpers import BY_TEST, commits, make_key, make_staff, make_token, make_user, make_workspace, sign_in
from tests.processes import ROOT, TIMEOUT, database_url, server, wait_until
from tests.system.conftest import PRODUCTION
from tests.system.test_metrics import metrics_urls, scrape, value
from workspaces.models import User, Workspace

REJECTED_KEYS = ["malformed", "unknown", "wrong_secret", "revoked", "expired", "suspended", "ended"]
REJECTED_TOKENS = ["malformed", "unknown", "expired", "inactive_user"]


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes
    lines: list[dict[str, Any]]  # the log lines with the id of this request


class Site:
    def __init__(self, url: str, log: Path) -> None:
        self.url = url
        self.log = log

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def get(self, path: str, *, token: str = "", user: User | None = None, host: str = "") -> Answer:
        request_id = secrets.token_hex(8)
        request = urllib.request.Request(self.url + path)
        request.add_header("X-Request-Id", request_id)
        request.add_header("X-Forwarded-Proto", "https")
        if host:
            request.add_header("Host", host)
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        if user is not None:
            session_key = sign_in(user).cookies[settings.SESSION_COOKIE_NAME].value
            request.add_header("Cookie", f"__Host-sessionid={session_key}")
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
                answer = response.status, dict(response.headers), response.read()
        except urllib.error.HTTPError as error:
            with error:
                answer = error.code, dict(error.headers), error.read()
        return Answer(*answer, [line for line in self.lines() if line.get("requestId") == request_id])


@pytest.fixture(scope="module")
def site(django_db_setup: None, collected: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    production = PRODUCTION | collected | {"DATABASE_URL": database_url(), "CACHE_URL": ""}
    production |= {"ALLOWED_HOSTS": "127.0.0.1", "TRUSTED_PROXIES": "127.0.0.1", "METRICS_ADDRESS": "127.0.0.1:0"}
    production |= {"SECRET_KEY": settings.SECRET_KEY, "DJANGO_SETTINGS_MODULE": "tests.system.failing_settings"}
    log = tmp_path_factory.mktemp("site") / "log"
    with server(log, 1, **production) as url:
        yield Site(url, log)


def rejected_keys() -> dict[str, tuple[str, dict[str, str]]]:
    """Return a key for each reason to reject it, with the fields of the log line that identify it."""
    workspace, suspended = (make_workspace(make_user(name), slug=name) for name in ("owner", "outsider"))
    created = {reason: make_key(workspace) for reason in ("malformed", "wrong_secret", "revoked", "expired", "ended")}
    created["suspended"] = make_key(suspended)
    created["revoked"][0].revoke(by=BY_TEST)
    ApiKey.objects.filter(pk=created["expired"][0].pk).update(expires_at=timezone.now())
    suspended.suspend("Unpaid", by=BY_TEST)
    tokens = {reason: (secret, {"key": api_key.current_secret.key_id}) for reason, (api_key, secret) in created.items()}
    created["ended"][0].rotate(overlap=timedelta(), by=BY_TEST)
    tokens["malformed"] = (tokens["malformed"][0][:-1], tokens["malformed"][1])
    body = f"one_{created['wrong_secret'][0].current_secret.key_id}_{keys.generate().secret[17:-6]}"
    tokens["wrong_secret"] = (body + keys.checksum(body), tokens["wrong_secret"][1])
    unknown = keys.generate()
    return tokens | {"unknown": (unknown.secret, {"key": unknown.key_id})}


def rejected_tokens() -> dict[str, tuple[str, dict[str, str]]]:
    """Return an access token for each reason to reject it, with the fields of the log line that identify it."""
    expired, inactive = make_user("member"), make_user("gone")
    tokens = {
        "malformed": ("x" * 29, {}),
        "unknown": ("x" * 30, {}),
        "expired": (make_token(expired), {"user": expired.pk, "client": "tests"}),
        "inactive_user": (make_token(inactive), {"user": inactive.pk, "client": "tests"}),
    }
    AccessToken.objects.filter(user=expired).update(expires=timezone.now() - timedelta(seconds=1))
    User.objects.filter(pk=inactive.pk).update(is_active=False)
    return tokens


@contextmanager
def locked_quota(workspace: Workspace) -> Iterator[None]:
    """Hold the lock that counting a request of this workspace needs."""
    if connection.vendor == "sqlite":
        with transaction.atomic():
            yield
        return
    with psycopg.connect(database_url()) as other:
        other.execute("SELECT 1 FROM workspaces_quota WHERE subject = %s FOR UPDATE", [workspace.pk])
        yield


@commits
def test_every_line_of_a_server_is_json_with_the_request_and_its_principal(site: Site) -> None:
    owner, operator = make_user("admin"), make_staff("operator", "operators")
    workspace = make_workspace(owner)
    api_key, secret = make_key(workspace)
    key_fields = {"key": api_key.current_secret.key_id, "workspace": workspace.pk}

    for path, route, user in (
        (f"/w/{workspace.pk}/settings/developer/api-keys/", "w/<str:workspace_id>/settings/developer/api-keys/", owner),
        ("/admin/workspaces/workspace/", "admin/workspaces/workspace/", operator),
    ):
        (line,) = site.get(path, user=user).lines
        assert (line["status"], line["route"], line["user"]) == (200, route, user.pk)
    (line,) = site.get("/nowhere/").lines
    assert (line["status"], line["route"]) == (404, "unmatched")
    assert "user" not in line

    # An error has one traceback and the request's line.
    for path, fields, options in (
        ("/failing/page/", {"route": "failing/<name>/", "user": owner.pk}, {"user": owner}),
        ("/api/v1/failing/view", {"route": "api/v1/failing/<name>", **key_fields}, {"token": secret}),
    ):
        status, _, _, lines = site.get(path, **options)
        traceback, line = lines
        assert status == line["status"] == 500
        assert (traceback["levelname"], line["levelname"]) == ("ERROR", "INFO")
        assert "ZeroDivisionError" in traceback["exc_info"]
        for logged in lines:
            assert logged.items() >= fields.items()

    # Lines of Django and of Python's warnings have the fields too.
    for path, name in (("/suspicious/", "django.security.SuspiciousOperation"), ("/warning/", "py.warnings")):
        logged, line = site.get(path, user=owner).lines
        assert logged["name"] == name
        assert (logged["user"], logged["route"]) == (line["user"], line["route"]) == (owner.pk, path[1:])

    # Anybody can send any Host, so it has no traceback.
    unknown_host, line = site.get("/sign-in/", host="evil.example").lines
    assert (unknown_host["name"], line["status"]) == ("django.security.DisallowedHost", 400)
    assert "'evil.example'" in unknown_host["message"]
    assert "exc_info" not in unknown_host

    # A locked row is one warning with its cause, after one that names the row for all requests that wait for it.
    assert site.get("/api/v1/me", token=secret).status == 200
    with locked_quota(workspace):
        status, _, _, (stuck, line) = site.get("/api/v1/me", token=secret)
    locked = "the database" if connection.vendor == "sqlite" else f"the quota of {workspace.pk}"
    assert stuck["message"].startswith(f"{locked} was locked for too long")
    assert status == line["status"] == 503
    assert (line["levelname"], line["cause"], line["route"]) == ("WARNING", "lock_timeout", "api/v1/me")
    assert "lock" in line["error"]
    assert value(scrape(metrics_urls(site.log, 1)), "onehorizon_unavailable_total", cause="lock_timeout") == 1

    lines = site.lines()  # all lines are JSON
    assert {"_granian", "onehorizon.metrics", "onehorizon.requests"} <= {line["name"] for line in lines}
    without_request = {line["name"] for line in lines if "requestId" not in line}
    assert without_request <= {"_granian", "_granian.serve", "onehorizon", "onehorizon.metrics"}  # at the start
    for line in lines:
        written = datetime.strptime(line["time"], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
        assert abs(datetime.now(UTC) - written) < timedelta(hours=1)


@commits
def test_the_reason_of_a_401_is_logged_and_counted_and_hidden_from_the_client(site: Site) -> None:
    cases = [("api_key", *case) for case in rejected_keys().items()]
    cases += [("access_token", *case) for case in rejected_tokens().items()]
    assert {reason for kind, reason, _ in cases if kind == "api_key"} == set(REJECTED_KEYS)
    assert {reason for kind, reason, _ in cases if kind == "access_token"} == set(REJECTED_TOKENS)

    answers = [(kind, reason, fields, site.get("/api/v1/me", token=token)) for kind, reason, (token, fields) in cases]

    for _, reason, fields, answer in answers:
        (line,) = answer.lines
        assert line["reason"] == reason
        assert {name: line[name] for name in ("key", "user", "client", "workspace") if name in line} == fields
    varying = {"date", "x-request-id"}
    shown = {
        (answer.status, answer.body, *((n, v) for n, v in answer.headers.items() if n.lower() not in varying))
        for *_, answer in answers
    }
    assert len(shown) == 1
    samples = scrape(wait_until(lambda: metrics_urls(site.log, 1)))
    for kind, reason, _ in cases:
        labels = {"kind": kind, "outcome": "rejected", "reason": reason}
        assert value(samples, "onehorizon_authentications_total", **labels) == 1


@pytest.mark.one_database("uses no database")
@pytest.mark.parametrize("document", [ROOT / "README.md", ROOT / "docs/operations.md"], ids=lambda path: path.name)
def test_each_documented_server_logs_in_json(document: Path) -> None:
    commands = re.findall(r"granian --interface.*?onehorizon\.wsgi:application", document.read_text(), re.DOTALL)

    assert commands
    assert all("--log-config deploy/granian-log.json" in command for command in commands)


@pytest.mark.one_database("uses no database")
def test_the_log_configuration_of_the_parent_process_loads_no_other_module_of_ours() -> None:
    """The workers that it forks after an upgrade would use the old release's module."""
    code = """
        import json, logging.config, sys
        with open("deploy/granian-log.json") as file:
            logging.config.dictConfig(json.load(file))
        logging.getLogger("_granian").warning('"quoted"')
        print(*sorted(name for name in sys.modules if name.split(".")[0] in ("core", "django", "onehorizon", "orjson")))
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=True,
    )

    assert result.stdout == "core core.server_logs\n"
    assert json.loads(result.stderr)["message"] == '"quoted"'
