"""Forged client IPs, against real servers: they bypass no limit and enter no audit event."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from apikeys.models import ApiKey
from tests.helpers import commits, make_key, make_token, make_user, make_workspace
from tests.processes import TIMEOUT, server
from workspaces.models import AuditEvent, User, Workspace

pytestmark = commits

CLIENT = "203.0.113.7"
FORGED = ["198.51.100.{}", "127.0.0.1, 198.51.100.{}", "2001:db8:{}::1", "unknown-{}"]
HEADERS = ["X-Forwarded-For", "Forwarded: for=198.51.100.{}", "X-Real-IP", "X-Client-IP", "True-Client-IP", "Client-IP"]


def send(
    site: str, path: str, *headers: str, body: str = "", content_type: str = "application/json"
) -> tuple[int, str]:
    """Send a request over a socket, because HTTP clients don't send a header twice. Return its status and body."""
    parts = urlsplit(site)
    with socket.create_connection((parts.hostname, parts.port), timeout=TIMEOUT) as connection:
        lines = [f"{'POST' if body else 'GET'} {path} HTTP/1.1", f"Host: {parts.netloc}", "Connection: close", *headers]
        lines += [f"Content-Type: {content_type}", f"Content-Length: {len(body)}"] if body else []
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n" + body).encode())
        response = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    return int(response.split()[1]), response.partition("\r\n\r\n")[2]


# Each limit counts per client IP, so the tests can share the servers: each test of a limit is another client.
@pytest.fixture(scope="module")
def direct(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server without a proxy."""
    with server(tmp_path_factory.mktemp("direct") / "log", APIKEYS_FAILURES_PER_MINUTE="3") as site:
        yield site


@pytest.fixture(scope="module")
def proxied_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("proxied") / "log"


@pytest.fixture(scope="module")
def proxied(django_db_setup: None, proxied_log: Path) -> Iterator[str]:
    """A server behind a proxy. The tests act as the proxy: they append the client IP to X-Forwarded-For."""
    with server(proxied_log, APIKEYS_FAILURES_PER_MINUTE="3", TRUSTED_PROXIES="127.0.0.1,10.0.0.0/8") as site:
        yield site


def forged(number: int) -> list[str]:
    """Return every header that can carry a client IP, with an IP that depends on `number`."""
    value = FORGED[number % len(FORGED)].format(number)
    return [(name if ":" in name else f"{name}: {value}").format(number) for name in HEADERS]


def test_without_proxies_no_header_bypasses_the_limit_on_wrong_keys(direct: str) -> None:
    statuses = [
        send(direct, "/api/v1/me", "Authorization: Bearer one_wrong", *forged(number))[0] for number in range(8)
    ]

    assert statuses == [401] * 3 + [429] * 5


def test_behind_a_proxy_entries_before_its_own_bypass_nothing(proxied: str) -> None:
    def attempt(number: int) -> int:
        headers = ["Authorization: Bearer one_wrong", *forged(number), "X-Forwarded-For: 203.0.113.1"]
        return send(proxied, "/api/v1/me", *headers)[0]

    assert [attempt(number) for number in range(8)] == [401] * 3 + [429] * 5


def test_behind_a_proxy_a_claim_to_be_a_proxy_bypasses_nothing(proxied: str) -> None:
    def attempt(number: int) -> int:
        claim = f"X-Forwarded-For: 198.51.100.{number}, 10.0.0.{number}, 203.0.113.2, 10.0.0.7"
        return send(proxied, "/api/v1/me", "Authorization: Bearer one_wrong", claim)[0]

    assert [attempt(number) for number in range(6)] == [401] * 3 + [429] * 3


def test_behind_a_proxy_that_sends_ports_each_client_has_its_own_limit(proxied: str, proxied_log: Path) -> None:
    def attempt(*entries: str) -> int:
        headers = [f"X-Forwarded-For: {entry}" for entry in entries]
        return send(proxied, "/api/v1/me", "Authorization: Bearer one_wrong", *headers)[0]

    ipv4 = [attempt(f"198.51.100.{port}", f"203.0.113.3:{port}") for port in range(50_000, 50_005)]
    ipv6 = [attempt(f'"[2001:db8::7]:{port}"', "10.0.0.7:443") for port in range(50_000, 50_005)]
    unknown = [attempt("198.51.100.1", f"unknown-{number}") for number in range(5)]

    assert ipv4 == ipv6 == unknown == [401] * 3 + [429] * 2
    assert attempt("203.0.113.4:50000") == 401
    lines = [line for line in proxied_log.read_text().splitlines() if "is not an IP address" in line]
    assert len(lines) == 1
    assert "proxy 127.0.0.1 " in lines[0]


def test_no_header_bypasses_the_limit_on_sign_in(direct: str) -> None:
    form = "username=someone-{}%40example.com&password=a-wrong-guess&csrfmiddlewaretoken=" + "a" * 32

    def attempt(number: int) -> int:
        headers = [*forged(number), "Cookie: csrftoken=" + "a" * 32]
        content_type = "application/x-www-form-urlencoded"
        return send(direct, "/sign-in/", *headers, body=form.format(number), content_type=content_type)[0]

    # The server counts in windows of five minutes, and a second window may start during the test.
    statuses = list(takewhile(lambda status: status == 200, map(attempt, range(121))))
    assert 60 <= len(statuses) <= 120
    assert attempt(121) == 429


@pytest.fixture
def owner(transactional_db: None) -> User:
    return make_user("owner")


@pytest.fixture
def workspace(owner: User) -> Workspace:
    return make_workspace(owner)


@pytest.mark.parametrize(("fixture", "client_ip"), [("direct", "127.0.0.1"), ("proxied", CLIENT)])
def test_an_audit_event_has_the_client_ip_that_a_trusted_proxy_saw(
    fixture: str, client_ip: str, request: pytest.FixtureRequest, owner: User, workspace: Workspace
) -> None:
    site: str = request.getfixturevalue(fixture)
    bearer = f"Authorization: Bearer {make_token(owner)}"
    secret = make_key(workspace)[1]

    for number in range(4):
        headers = [*forged(number), f"X-Forwarded-For: {CLIENT}"]
        body = json.dumps({"description": f"Forged {number}"})
        status, _ = send(site, "/api/v1/workspaces/current/api-keys", bearer, *headers, body=body)
        assert status == 201
    assert send(site, "/api/v1/me", f"Authorization: Bearer {secret}", *headers)[0] == 200

    assert {event.client_ip for event in AuditEvent.objects.filter(via="api")} == {client_ip}
    assert ApiKey.objects.get(description="CI, production").current_secret.last_used_from == client_ip
