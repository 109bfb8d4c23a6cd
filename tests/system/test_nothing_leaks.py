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
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection

from apikeys import keys
from apikeys.models import ApiKey, StoredSecret
from tests.helpers import BY_TEST, commits, make_key, make_user, make_workspace, stretch_windows
from tests.processes import TIMEOUT, free_port, process, wait_until_listening
from workspaces.models import AuditEvent, Workspace

pytestmark = commits


@dataclass(frozen=True)
class RecordedTraffic:
    workspace: Workspace
    secrets: list[str]
    responses: bytes
    log: str


def send(site: str, method: str, path: str, headers: dict[str, str], body: bytes | None = None) -> bytes:
    """Send a request, and return the headers and the body of the response, whatever its status."""
    headers = {"X-Forwarded-Proto": "https", **headers}  # as a proxy that terminates TLS
    request = urllib.request.Request(site + path, body, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            return str(response.headers).encode() + bytes(response.read())
    except urllib.error.HTTPError as error:
        with error:
            return str(error.headers).encode() + error.read()


def send_everywhere(secret: str, site: str) -> Iterator[bytes]:
    """Send valid requests, and requests with the secret in every wrong place. Yield the responses."""
    bearer = {"Authorization": f"Bearer {secret}"}
    tasks = "/api/v1/workspaces/current/tasks"
    yield send(site, "GET", tasks, bearer)
    for path in ("/me", "/workspaces", "/workspaces/current", "/workspaces/current/members", "/nowhere"):
        yield send(site, "GET", f"/api/v1{path}", bearer)
    bodies: list[object] = [{"title": "A task"}, {"title": ""}, {"title": 7}, [], {"userId": secret, "title": "A"}]
    for body in bodies:
        yield send(site, "POST", tasks, bearer | {"Content-Type": "application/json"}, json.dumps(body).encode())
    yield send(site, "POST", tasks, bearer | {"Content-Type": "application/json"}, f"not JSON {secret}".encode())
    yield send(site, "POST", tasks, bearer | {"Content-Type": secret}, b"{}")
    yield send(site, "PUT", tasks, bearer)
    yield send(site, "GET", f"/api/v1/workspaces/{secret}/tasks", bearer)
    yield send(site, "GET", f"/api/v1/workspaces/{secret}", {})
    yield send(site, "GET", f"/api/{secret}", {})
    yield send(site, "GET", f"/api/%256Fne{secret[3:]}", {})
    yield send(site, "GET", f"{tasks}?key={secret}&cursor={secret}&status={secret}&userId={secret}", bearer)
    yield send(site, "GET", f"{tasks}?limit={secret}", bearer)
    basic = base64.b64encode(f"user:{secret}".encode()).decode()
    for credentials in (f"Basic {basic}", f"Token {secret}", secret, f"Bearer {secret[:-1]}", f"Bearer {secret} x"):
        yield send(site, "GET", tasks, {"Authorization": credentials})
    yield send(site, "GET", tasks, bearer | {"X-Request-Id": secret[:64], "X-Forwarded-For": secret})
    yield send(site, "GET", tasks, bearer | {"Accept": secret})
    yield send(site, "GET", tasks, bearer | {"Host": secret})
    yield send(site, "GET", tasks, {"Cookie": f"key={secret}", "User-Agent": secret, "Referer": f"/?key={secret}"})


@pytest.fixture(params=["off"])
def traffic(
    request: pytest.FixtureRequest, transactional_db: None, tmp_path: Path, collected: dict[str, str]
) -> RecordedTraffic:
    workspace = make_workspace(make_user("owner"))
    created = [make_key(workspace, f"Service {number}") for number in range(3)]
    log, port = tmp_path / "server.log", free_port()
    site = f"http://127.0.0.1:{port}"
    granian = [str(Path(sys.executable).with_name("granian")), "--interface", "wsgi", "--port", str(port)]
    granian += ["--access-log", "--access-log-fmt", "access %(path)s %(query_string)s %(header{user-agent})s"]
    production = {"SECRET_KEY": "only for this test, and long enough to be one " * 2, "ALLOWED_HOSTS": "127.0.0.1"}
    stretch_windows()
    production |= {"DEBUG": request.param, "TRUSTED_PROXIES": "127.0.0.1", **collected}
    with process([*granian, "onehorizon.wsgi:application"], log, **production) as started:
        wait_until_listening(port, started, log)
        responses = [response for _, secret in created for response in send_everywhere(secret, site)]
        if request.param == "off":  # with DEBUG on, Django's 404 page shows the path
            responses += [send(site, "GET", f"/{secret}", {}) for _, secret in created]
        # With each key, from here on, a current and a previous secret.
        created += [(key, key.rotate(overlap=timedelta(hours=1), by=BY_TEST)) for key, _ in created]
        responses += [response for _, secret in created[3:] for response in send_everywhere(secret, site)]
        created[1][0].end_previous_secret(by=BY_TEST)
        created[0][0].rename("Renamed", by=BY_TEST)
        created[0][0].revoke(by=BY_TEST, reason="Leaked")
        for _, secret in created:
            responses += [send(site, "GET", "/api/v1/me", {"Authorization": f"Bearer {secret}"}) for _ in range(25)]
    return RecordedTraffic(workspace, [secret for _, secret in created], b"\n".join(responses), log.read_text())


def traces(secret: str) -> list[str]:
    """Return what reveals the secret: all of it, its unknown half, parts of that, encodings, and digests of it."""
    unknown = secret[len("one_") + keys.KEY_ID_LENGTH + 1 :]
    digest = hashlib.sha256(secret.encode())
    pieces = [unknown[start : start + 12] for start in range(0, keys.SECRET_LENGTH - 12, 6)]
    encoded = [base64.b64encode(f"user:{secret}".encode()).decode(), secret.encode().hex()]
    return [secret, unknown, *pieces, *encoded, digest.hexdigest(), base64.b64encode(digest.digest()).decode()]


def tables() -> dict[str, str]:
    """Return every column of every row of each table, as text."""
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
    """Return the bytes of SQLite's files. A PostgreSQL server's files can't be read, so only `tables()` covers it."""
    if connection.vendor != "sqlite":
        return b""
    name = Path(str(connection.settings_dict["NAME"]))
    return b"".join(file.read_bytes() for file in name.parent.glob(name.name + "*"))


@pytest.mark.parametrize("traffic", ["on", "off"], ids=["debug on", "debug off"], indirect=True)
def test_a_secret_sent_everywhere_is_stored_nowhere(traffic: RecordedTraffic) -> None:
    stored = tables()
    assert "Renamed" in stored["apikeys_apikey"]
    for action in ("api_key.revoked", "api_key.rotated", "api_key.previous_secret_ended"):
        assert action in stored["workspaces_auditevent"]
    assert b"rate limit exceeded" in traffic.responses
    assert "/api/v1/workspaces/current/tasks" in traffic.log
    assert "access /api/v1/workspaces/current/tasks" in traffic.log
    representations = [
        repr(row) + str(row) for row in (*ApiKey.objects.all(), *StoredSecret.objects.all(), *AuditEvent.objects.all())
    ]
    database = database_bytes().decode("latin-1")
    assert connection.vendor != "sqlite" or traffic.workspace.pk in database
    texts = {
        **stored,
        "bytes of the database": database,
        "responses": traffic.responses.decode(),
        "log": traffic.log,
        "repr": " ".join(representations),
    }

    leaks = [
        (location, trace)
        for location, text in texts.items()
        for secret in traffic.secrets
        for trace in traces(secret)
        if trace in text
    ]

    assert leaks == []


def test_a_hash_is_in_its_column_only(traffic: RecordedTraffic) -> None:
    hashes = StoredSecret.objects.values_list("hash", flat=True)
    digests = [stored.rsplit("$", 1)[1] for stored in hashes]
    fingerprints = [bytes(value).hex() for value in StoredSecret.objects.values_list("fingerprint", flat=True)]
    proofs = [bytes(value).hex() for value in StoredSecret.objects.values_list("shared_proof", flat=True) if value]
    stored = tables()
    in_its_column = stored.pop("apikeys_storedsecret")
    stored.pop("apikeys_apikey")  # the columns for the release before
    representations = [
        repr(row) + str(row) for row in (*ApiKey.objects.all(), *StoredSecret.objects.all(), *AuditEvent.objects.all())
    ]
    elsewhere = [*stored.values(), traffic.responses.decode(), traffic.log, *representations]

    assert all(digest in in_its_column for digest in digests)
    assert len(proofs) == len(digests)
    assert [part for part in (*digests, *fingerprints, *proofs) for text in elsewhere if part in text] == []
    assert not any("$argon2id$v=" in text for text in (traffic.responses.decode(), traffic.log, *representations))


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
