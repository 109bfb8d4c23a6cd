"""Bodies that arrive slowly, late, in part or not at all. Raw sockets, because HTTP clients send a request at once."""

from __future__ import annotations

import http.client
import json
import select
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from oauth2_provider.models import AccessToken

from apikeys.models import ApiKey
from tests.helpers import BY_TEST, commits, lift_quota, make_key, make_token, sign_in
from tests.processes import TIMEOUT, fetch, server
from workspaces.models import Role, Task, User, Workspace

pytestmark = commits

API = "/api/v1/workspaces/current"
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
CHUNKED = {"Transfer-Encoding": "chunked"}
MIB = 1024 * 1024


class Exchange:
    """A request whose headers are sent first, and its body when the test sends it. `start` sends another request."""

    def __init__(self, site: str, method: str, path: str, headers: dict[str, str]) -> None:
        self.host = urlsplit(site).netloc
        address, port = self.host.split(":")
        self.socket = socket.create_connection((address, int(port)), TIMEOUT)
        self.is_chunked = "Transfer-Encoding" in headers
        self.start(method, path, headers)

    def start(self, method: str, path: str, headers: dict[str, str]) -> None:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.host}", *(f"{name}: {headers[name]}" for name in headers)]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode())

    def wait_until_body_is_read(self) -> None:
        """Wait for the response that the server sends when the application reads the body (`Expect: 100-continue`)."""
        assert self.socket.recv(1024) == b"HTTP/1.1 100 Continue\r\n\r\n"

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def response(self) -> Any:
        """Return the response, with its body as `text`."""
        response: Any = http.client.HTTPResponse(self.socket)
        response.begin()
        response.text = response.read().decode()
        return response

    def is_closed_by_server(self) -> bool:
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:  # more of the body arrived after the server had closed the connection
            return True


@contextmanager
def exchange(site: str, method: str, path: str, **headers: str) -> Iterator[Exchange]:
    created = Exchange(site, method, path, {name.replace("_", "-"): value for name, value in headers.items()})
    try:
        yield created
    finally:
        created.socket.close()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


# ---- credentials that end while the body is on its way ----


def demote(admin: User, **_: Any) -> None:
    admin.memberships.get().change_role(Role.MEMBER, by=BY_TEST)


def remove(admin: User, **_: Any) -> None:
    admin.memberships.get().leave(by=BY_TEST)


def deactivate(admin: User, **_: Any) -> None:
    User.objects.filter(pk=admin.pk).update(is_active=False)


def delete_token(admin: User, **_: Any) -> None:
    AccessToken.objects.all().delete()


def revoke_key(api_key: ApiKey, **_: Any) -> None:
    api_key.revoke(by=BY_TEST)


def end_secret(api_key: ApiKey, **_: Any) -> None:
    api_key.rotate(overlap=timedelta(), by=BY_TEST)


def suspend(workspace: Workspace, **_: Any) -> None:
    workspace.suspend("Unpaid", by=BY_TEST)


def end_session(admin: User, **_: Any) -> None:
    User.objects.filter(pk=admin.pk).update(password="changed")


@pytest.fixture
def credentials(workspace: Workspace, admin: User, secret: str) -> dict[str, dict[str, str]]:
    """The headers of each kind of caller."""
    client = sign_in(admin)
    client.get("/settings/password/")
    cookies = "; ".join(f"{name}={morsel.value}" for name, morsel in client.cookies.items())
    return {
        "token": bearer(make_token(admin)),
        "key": bearer(secret),
        "session": {"Cookie": cookies, "X-CSRFToken": client.cookies["csrftoken"].value},
    }


KEY_BODY = b'{"description": "Back door"}'
KEY_FORM = b"description=Back+door&expiry=never&idempotency_key=0123456789abcdef0123456789abcdef"
PAGE = "/w/{workspace}/settings/developer/api-keys"


def stored_keys() -> list[tuple[Any, ...]]:
    return list(ApiKey.objects.values_list("pk", "revoked_at", "secrets__key_id", "secrets__ends_at").order_by("pk"))


@pytest.mark.parametrize(
    ("end", "caller", "path", "body", "status"),
    [
        (demote, "token", f"{API}/api-keys", KEY_BODY, 403),
        (remove, "token", f"{API}/api-keys", KEY_BODY, 400),  # `current` is none of the person's workspaces
        (remove, "token", "/api/v1/workspaces/{workspace}/api-keys", KEY_BODY, 404),
        (deactivate, "token", f"{API}/api-keys", KEY_BODY, 401),
        (delete_token, "token", f"{API}/api-keys", KEY_BODY, 401),
        (suspend, "token", f"{API}/api-keys", KEY_BODY, 409),
        (demote, "session", f"{PAGE}/add/", KEY_FORM, 403),
        (remove, "session", f"{PAGE}/add/", KEY_FORM, 404),
        (deactivate, "session", f"{PAGE}/add/", KEY_FORM, 302),
        (end_session, "session", f"{PAGE}/add/", KEY_FORM, 302),
        (demote, "session", f"{PAGE}/{{api_key}}/revoke/", b"reason=", 403),
        (demote, "token", f"{API}/api-keys/{{api_key}}/rotate", b'{"overlapSeconds": 0}', 403),
        (remove, "token", "/api/v1/workspaces/{workspace}/api-keys/{api_key}/rotate", b'{"overlapSeconds": 0}', 404),
        (revoke_key, "token", f"{API}/api-keys/{{api_key}}/rotate", b'{"overlapSeconds": 0}', 409),
        (suspend, "token", f"{API}/api-keys/{{api_key}}/rotate", b'{"overlapSeconds": 0}', 409),
        (revoke_key, "key", f"{API}/tasks", b'{"title": "Ship"}', 401),
        (end_secret, "key", f"{API}/tasks", b'{"title": "Ship"}', 401),
        (suspend, "key", f"{API}/tasks", b'{"title": "Ship"}', 401),
    ],
)
def test_credentials_are_checked_when_the_body_has_arrived(
    end: Callable[..., None],
    caller: str,
    path: str,
    body: bytes,
    status: int,
    site: str,
    credentials: dict[str, dict[str, str]],
    workspace: Workspace,
    admin: User,
    api_key: ApiKey,
) -> None:
    path = path.format(workspace=workspace.pk, api_key=api_key.pk)
    headers = credentials[caller] | (FORM if caller == "session" else JSON)
    keys = stored_keys()

    with exchange(site, "POST", path, **headers, Expect="100-continue", Content_Length=str(len(body))) as request:
        request.wait_until_body_is_read()
        request.send(body[:5])
        end(admin=admin, workspace=workspace, api_key=api_key)
        if end in (revoke_key, end_secret):
            keys = stored_keys()
        request.send(body[5:])

        assert request.response().status == status
    assert stored_keys() == keys
    assert not Task.objects.exists()


def test_a_request_counts_against_the_quota_when_its_body_has_arrived(site: str, secret: str) -> None:
    body = b'{"title": "Ship"}'
    with exchange(
        site, "POST", f"{API}/tasks", **JSON, **bearer(secret), Expect="100-continue", Content_Length=str(len(body))
    ) as request:
        request.wait_until_body_is_read()
        _, earlier, _ = fetch(f"{site}/api/v1/me", secret)
        request.send(body)
        response = request.response()

    assert response.status == 201
    assert earlier["ratelimit"].startswith('"standard";r=199;')
    assert response.headers["RateLimit"].startswith('"standard";r=198;')


# ---- no lock while a body arrives ----


def test_a_body_that_has_not_arrived_blocks_nobody(site: str, workspace: Workspace, secret: str) -> None:
    task = Task.objects.create_task(workspace, title="Ship")
    path, body = f"{API}/tasks/{task.pk}", b'{"title":"A"}'
    other = http.client.HTTPConnection(urlsplit(site).netloc, timeout=TIMEOUT)

    with exchange(
        site, "PATCH", path, **JSON, **bearer(secret), Expect="100-continue", Content_Length=str(len(body))
    ) as request:
        request.wait_until_body_is_read()
        request.send(body[:1])
        other.request("PATCH", path, b'{"title":"B"}', JSON | bearer(make_key(workspace)[1]))
        response = other.getresponse()
        other_status, _ = response.status, response.read()
        other.close()
        request.send(body[1:])
        status = request.response().status

    assert (other_status, status) == (200, 200)
    task.refresh_from_db()
    assert task.title == "A"


# ---- slow bodies ----


@pytest.fixture(scope="module")
def impatient(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server that waits one second for a body. Its environment has the names of some headers."""
    log = tmp_path_factory.mktemp("impatient") / "log"
    with server(
        log,
        DJANGO_SETTINGS_MODULE="tests.system.impatient",
        HTTP_AUTHORIZATION="Bearer nonsense",
        HTTP_X_REQUEST_ID="from-the-environment",
        CONTENT_LENGTH="13",
        CONTENT_TYPE="text/plain",
        SCRIPT_URL="/elsewhere",
    ) as url:
        yield url


def drip(*requests: Exchange) -> None:
    """Send one byte after another on each connection, until each has a response."""
    waiting = list(requests)
    while waiting:
        for request in waiting:
            request.send(b"1\r\na\r\n" if request.is_chunked else b"a")
        answered, _, _ = select.select([request.socket for request in waiting], [], [], 0.1)
        waiting = [request for request in waiting if request.socket not in answered]


@pytest.mark.parametrize("length", [{"Content-Length": "1000"}, CHUNKED], ids=["Content-Length", "chunked"])
def test_slow_bodies_end_in_408(length: dict[str, str], impatient: str) -> None:
    """The server has two threads, and the four clients send forms and JSON, one byte after another."""
    paths = ["/sign-in/", "/app/auth/token", f"{API}/tasks", "/app/auth/device"]
    requests = [Exchange(impatient, "POST", path, FORM | length) for path in paths]

    drip(*requests)

    responses = [request.response() for request in requests]
    assert fetch(f"{impatient}/healthz")[0] == 200
    for path, response in zip(paths, responses, strict=True):
        assert (response.status, response.headers["Connection"]) == (408, "close")
        assert response.headers["X-Request-Id"]
        if path.startswith("/api/"):
            assert json.loads(response.text) == {"code": 408, "message": "The body did not arrive within 1 second."}
        elif path.startswith("/app/"):
            message = "The body did not arrive within 1 second."
            assert json.loads(response.text) == {"error": "invalid_request", "error_description": message}
        else:
            assert "<h1>The request took too long</h1>" in response.text
    assert all(request.is_closed_by_server() for request in requests)
    for request in requests:
        request.socket.close()


def test_a_probe_is_answered_while_a_slow_body_arrives(site: str) -> None:
    with exchange(site, "POST", "/sign-in/", **FORM, Expect="100-continue", Content_Length="8") as request:
        request.wait_until_body_is_read()
        request.send(b"usernam")

        assert fetch(f"{site}/healthz")[0] == 200


@pytest.mark.parametrize("length", [{"Content-Length": "100"}, CHUNKED], ids=["Content-Length", "chunked"])
@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/healthz", 200), ("POST", "/readyz", 405)])
def test_a_probe_never_waits_for_a_body(method: str, path: str, status: int, length: dict[str, str], site: str) -> None:
    with exchange(site, method, path, **length) as request:
        response = request.response()

        assert (response.status, response.headers["Connection"]) == (status, "close")
        assert request.is_closed_by_server()


def test_a_request_whose_client_disconnects_changes_nothing(site: str, secret: str, workspace: Workspace) -> None:
    body = b'{"title": "Ship"}'
    with exchange(site, "POST", f"{API}/tasks", **JSON, **bearer(secret), Content_Length=str(len(body) + 1)) as request:
        request.send(body)
        request.socket.shutdown(socket.SHUT_WR)
        request.socket.recv(4096)

    assert fetch(f"{site}/api/v1/me", secret)[1]["ratelimit"].startswith('"standard";r=199;')
    assert not Task.objects.exists()


# ---- connections that are used again ----


@pytest.mark.parametrize("credentials", [{}, {"Authorization": "Bearer nonsense"}], ids=["none", "invalid"])
def test_a_connection_serves_more_requests_after_a_401(credentials: dict[str, str], site: str, secret: str) -> None:
    body = b'{"title": "' + b"x" * 100 + b'"}'
    headers = JSON | {"Expect": "100-continue", "Content-Length": str(len(body))}

    with exchange(site, "POST", f"{API}/tasks", **headers, **credentials) as request:
        for status, further in ((401, credentials), (401, bearer(secret)), (201, None)):
            request.wait_until_body_is_read()
            request.send(body)
            assert request.response().status == status
            if further is not None:
                request.start("POST", f"{API}/tasks", headers | further)


def test_a_client_that_keeps_its_connection_sends_sixty_requests(site: str, secret: str, workspace: Workspace) -> None:
    lift_quota(workspace)
    connection = http.client.HTTPConnection(urlsplit(site).netloc, timeout=TIMEOUT)
    connection.connect()
    used = connection.sock

    for number in range(60):
        headers = {} if number % 2 else bearer(secret)
        connection.request("POST", f"{API}/tasks", b'{"title": "' + b"x" * 30_000 + b'"}', JSON | headers)
        response = connection.getresponse()
        response.read()
        assert response.status == (401 if number % 2 else 400)
        assert connection.sock is used
    connection.close()


@pytest.mark.parametrize("path", [f"{API}/tasks", "/sign-in/"])
@pytest.mark.parametrize("length", [{"Content-Length": str(3 * MIB)}, CHUNKED], ids=["Content-Length", "chunked"])
def test_a_body_over_the_limit_is_413_and_closes_the_connection(
    length: dict[str, str], path: str, site: str, secret: str
) -> None:
    with exchange(site, "POST", path, **JSON, **bearer(secret), **length) as request:
        if length is CHUNKED:
            request.send(b"%x\r\n" % (3 * MIB) + b"x" * 3 * MIB)
        response = request.response()

        assert (response.status, response.headers["Connection"]) == (413, "close")
        assert request.is_closed_by_server()
    if path == "/sign-in/":
        assert "<h1>The request is too large</h1>" in response.text
    else:
        assert json.loads(response.text)["code"] == 413


# ---- the environment of the process ----


def test_the_environment_of_the_process_is_not_part_of_a_request(impatient: str) -> None:
    status, headers, _ = fetch(f"{impatient}/api/v1/me")

    assert status == 401
    assert "invalid_token" not in headers["www-authenticate"]
    assert headers["x-request-id"] != "from-the-environment"
    assert fetch(f"{impatient}/sign-in/")[0] == 200
