"""Secrets that were sent to every endpoint are in no table, log or response."""

from __future__ import annotations

import base64
import hashlib
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from django.db import connection

from apikeys import keys
from apikeys.models import ApiKey
from tests.helpers import BY_TEST, commits, make_key, make_user, make_workspace, stretch_windows
from tests.processes import TIMEOUT, free_port, process, wait_until_listening
from workspaces.models import AuditEvent, Workspace

pytestmark = commits


@dataclass(frozen=True)
class RecordedTraffic:
    workspace: Workspace
    secrets: list[str]
    answers: bytes
    log: str


def ask(address: str, method: str, path: str, headers: dict[str, str], body: bytes | None = None) -> bytes:
    """Headers and body of the answer, whatever its status."""
    headers = {"X-Forwarded-Proto": "https", **headers}  # the test is the proxy that ends TLS
    request = urllib.request.Request(address + path, body, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            return str(response.headers).encode() + bytes(response.read())
    except urllib.error.HTTPError as error:
        with error:
            return str(error.headers).encode() + error.read()


def everything_one_can_do_with(secret: str, address: str) -> Iterator[bytes]:
    """Right requests, and every mistake that shows a secret where it doesn't belong."""
    bearer = {"Authorization": f"Bearer {secret}"}
    tasks = "/api/v1/workspaces/current/tasks"
    yield ask(address, "GET", tasks, bearer)
    for path in ("/me", "/workspaces", "/workspaces/current", "/workspaces/current/members", "/nowhere"):
        yield ask(address, "GET", f"/api/v1{path}", bearer)
    bodies: list[object] = [{"title": "A task"}, {"title": ""}, {"title": 7}, [], {"userId": secret, "title": "A"}]
    for body in bodies:
        yield ask(address, "POST", tasks, bearer | {"Content-Type": "application/json"}, json.dumps(body).encode())
    yield ask(address, "POST", tasks, bearer | {"Content-Type": "application/json"}, f"not JSON {secret}".encode())
    yield ask(address, "POST", tasks, bearer | {"Content-Type": secret}, b"{}")
    yield ask(address, "PUT", tasks, bearer)
    yield ask(address, "GET", f"/api/v1/workspaces/{secret}/tasks", bearer)
    yield ask(address, "GET", f"/api/v1/workspaces/{secret}", {})
    yield ask(address, "GET", f"/api/{secret}", {})
    yield ask(address, "GET", f"{tasks}?key={secret}&cursor={secret}&status={secret}&userId={secret}", bearer)
    yield ask(address, "GET", f"{tasks}?limit={secret}", bearer)
    basic = base64.b64encode(f"user:{secret}".encode()).decode()
    for credentials in (f"Basic {basic}", f"Token {secret}", secret, f"Bearer {secret[:-1]}", f"Bearer {secret} x"):
        yield ask(address, "GET", tasks, {"Authorization": credentials})
    yield ask(address, "GET", tasks, bearer | {"X-Request-Id": secret[:64], "X-Forwarded-For": secret})
    yield ask(address, "GET", tasks, bearer | {"Accept": secret})
    yield ask(address, "GET", tasks, bearer | {"Host": secret})
    yield ask(address, "GET", tasks, {"Cookie": f"key={secret}", "User-Agent": secret, "Referer": f"/?key={secret}"})


@pytest.fixture(params=["off"])
def traffic(request: pytest.FixtureRequest, transactional_db: None, tmp_path: Path) -> RecordedTraffic:
    workspace = make_workspace(make_user("owner"))
    created = [make_key(workspace, f"Service {number}") for number in range(3)]
    log, port = tmp_path / "server.log", free_port()
    address = f"http://127.0.0.1:{port}"
    granian = [str(Path(sys.executable).with_name("granian")), "--interface", "wsgi", "--port", str(port)]
    production = {"SECRET_KEY": "only for this test, and long enough to be one " * 2, "ALLOWED_HOSTS": "127.0.0.1"}
    stretch_windows()
    with process(
        [*granian, "onehorizon.wsgi:application"], log, DEBUG=request.param, TRUSTED_PROXIES="127.0.0.1", **production
    ) as started:
        wait_until_listening(port, started, log)
        answers = [answer for _, secret in created for answer in everything_one_can_do_with(secret, address)]
        if request.param == "off":  # Django's page for developers tells the path, to developers
            answers += [ask(address, "GET", f"/{secret}", {}) for _, secret in created]
        created[0][0].rename("Renamed", by=BY_TEST)
        created[0][0].revoke(by=BY_TEST, reason="Leaked")
        for _, secret in created:
            answers += [ask(address, "GET", "/api/v1/me", {"Authorization": f"Bearer {secret}"}) for _ in range(25)]
    return RecordedTraffic(workspace, [secret for _, secret in created], b"\n".join(answers), log.read_text())


def traces(secret: str) -> list[str]:
    """What would give the secret away: all of it, its unknown half, pieces of that, and digests that test guesses."""
    unknown = secret[len("one_") + keys.KEY_ID_LENGTH + 1 :]
    digest = hashlib.sha256(secret.encode())
    pieces = [unknown[start : start + 12] for start in range(0, keys.SECRET_LENGTH - 12, 6)]
    encoded = [base64.b64encode(f"user:{secret}".encode()).decode(), secret.encode().hex()]
    return [secret, unknown, *pieces, *encoded, digest.hexdigest(), base64.b64encode(digest.digest()).decode()]


def tables() -> dict[str, str]:
    """Every column of every row of every table, as text."""
    tables = {}
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            tables[table] = "\n".join(
                repr([bytes(value) if isinstance(value, memoryview) else value for value in row])
                for row in cursor.fetchall()
            )
    return tables


def database_bytes() -> bytes:
    """SQLite's files as they lie on the disk; elsewhere what the server keeps can't be read, and tables() must do."""
    if connection.vendor != "sqlite":
        return b""
    name = Path(str(connection.settings_dict["NAME"]))
    return b"".join(file.read_bytes() for file in name.parent.glob(name.name + "*"))


@pytest.mark.parametrize("traffic", ["on", "off"], ids=["debug on", "debug off"], indirect=True)
def test_a_secret_sent_everywhere_is_stored_nowhere(traffic: RecordedTraffic) -> None:
    stored = tables()
    assert "Renamed" in stored["apikeys_apikey"]
    assert "api_key.revoked" in stored["workspaces_auditevent"]
    assert b"rate limit exceeded" in traffic.answers
    assert "/api/v1/workspaces/current/tasks" in traffic.log
    shown = [repr(row) + str(row) for row in (*ApiKey.objects.all(), *AuditEvent.objects.all())]
    held = database_bytes().decode("latin-1")
    assert connection.vendor != "sqlite" or traffic.workspace.pk in held
    everywhere = {
        **stored,
        "bytes of the database": held,
        "answers": traffic.answers.decode(),
        "log": traffic.log,
        "repr": " ".join(shown),
    }

    leaks = [
        (location, trace)
        for location, text in everywhere.items()
        for secret in traffic.secrets
        for trace in traces(secret)
        if trace in text
    ]

    assert leaks == []


def test_a_hash_is_in_its_column_only(traffic: RecordedTraffic) -> None:
    hashes = ApiKey.objects.values_list("hash", flat=True)
    digests = [stored.rsplit("$", 1)[1] for stored in hashes]
    fingerprints = [bytes(value).hex() for value in ApiKey.objects.values_list("fingerprint", flat=True)]
    stored = tables()
    in_its_column = stored.pop("apikeys_apikey")
    shown = [repr(row) + str(row) for row in (*ApiKey.objects.all(), *AuditEvent.objects.all())]
    elsewhere = [*stored.values(), traffic.answers.decode(), traffic.log, *shown]

    assert all(digest in in_its_column for digest in digests)
    assert [part for part in (*digests, *fingerprints) for text in elsewhere if part in text] == []
    assert not any("$argon2id$v=" in text for text in (traffic.answers.decode(), traffic.log, *shown))


def test_the_repr_of_a_key_is_its_masked_form(workspace: Workspace) -> None:
    api_key, _ = make_key(workspace)
    event = api_key.audit_events.get()

    assert (str(api_key), repr(api_key)) == (api_key.masked, f"<ApiKey: {api_key.masked}>")
    assert (str(event), repr(event)) == (
        f"api_key.created {api_key.pk}",
        f"<AuditEvent: api_key.created {api_key.pk}>",
    )
    generated = keys.generate()
    assert repr(generated) == f"<GeneratedKey {keys.mask(generated.key_id)}>"
