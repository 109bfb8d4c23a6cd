"""nginx as deploy/nginx/ configures it, in front of the application in production."""

from __future__ import annotations

import json
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import commits, lift_quota, make_key, make_token, make_user, make_workspace
from tests.nginx import HOST, INSTALL, nginx
from tests.processes import TIMEOUT, free_port, program, wait_until, wait_until_responding
from tests.system.deploy.conftest import Deployed, send
from workspaces.models import AuditEvent, Task, User, Workspace

pytestmark = [
    commits,
    pytest.mark.one_database("about the network; both databases get these requests elsewhere"),
]

API = "/api/v1/workspaces/current"
JSON = {"Content-Type": "application/json"}
# Headers that a proxy could send. To Python servers, an underscore and a hyphen are the same.
FORGED = {
    "X-Forwarded-For": "198.51.100.1",
    "X_Forwarded_For": "198.51.100.2",
    "X-Forwarded-Proto": "https",
    "Forwarded": "for=198.51.100.3;proto=https",
    "X-Real-IP": "198.51.100.4",
}
TOO_LARGE = 2_600_000  # bytes


@pytest.fixture
def owner(transactional_db: None) -> User:
    return make_user("owner")


@pytest.fixture
def workspace(owner: User) -> Workspace:
    workspace = make_workspace(owner)
    lift_quota(workspace)
    return workspace


@pytest.fixture
def secret(workspace: Workspace) -> str:
    return make_key(workspace)[1]


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


# ---- slow clients ----


def begin(deployed: Deployed, *lines: str) -> ssl.SSLSocket:
    """Open a connection and send the beginning of a request."""
    connection = socket.create_connection(("127.0.0.1", deployed.nginx.tls_port), TIMEOUT)
    encrypted = deployed.nginx.tls.wrap_socket(connection, server_hostname=HOST)
    encrypted.sendall("\r\n".join(lines).encode())
    return encrypted


def read_all(connection: ssl.SSLSocket) -> str:
    return b"".join(iter(lambda: connection.recv(65536), b"")).decode()


def has_response(connection: ssl.SSLSocket) -> bool:
    connection.settimeout(0)
    try:
        connection.recv(1)
    except ssl.SSLWantReadError:
        return False
    finally:
        connection.settimeout(TIMEOUT)
    return True


def test_clients_that_drip_bytes_stop_nobody(deployed: Deployed, secret: str) -> None:
    """granian has two threads here. Without nginx, two of these bodies occupy both."""
    host, length = f"Host: {HOST}", "Content-Length: 1000"
    chunked = [f"POST /sign-in/ HTTP/1.1\r\n{host}\r\nTransfer-Encoding: chunked\r\n\r\n"]
    beginnings = [chunked, *([f"POST {path} HTTP/1.1", host, length, "", ""] for path in (f"{API}/tasks", "/sign-in/"))]
    with ExitStack() as stack, ThreadPoolExecutor(1) as thread:
        headers = stack.enter_context(begin(deployed, f"GET {API}/tasks HTTP/1.1", host, "X-Slow"))
        bodies = [stack.enter_context(begin(deployed, *lines)) for lines in [*beginnings, beginnings[1]]]
        requests = [thread.submit(send, deployed.connect(), "/api/v1/me", bearer(secret)) for _ in range(4)]
        while not all(request.done() for request in requests):
            for number, body in enumerate(bodies):
                body.sendall(b"a" if number else b"1\r\na\r\n")
            time.sleep(0.1)
        answered = [has_response(body) for body in bodies]
        statuses = [request.result().status for request in requests]
        closed = [read_all(connection) for connection in (headers, *bodies)]

    assert (statuses, answered) == ([200] * 4, [False] * 4)
    assert closed == [""] * 5  # when nginx has waited long enough


# ---- what clients claim ----


def test_forged_headers_reach_neither_limits_nor_audit_events(
    deployed: Deployed, owner: User, workspace: Workspace
) -> None:
    headers = JSON | bearer(make_token(owner))
    body = b'{"description": "Forged"}'

    response = send(deployed.connect(), f"{API}/api-keys", headers | FORGED, "POST", body)

    assert response.status == 201
    assert {event.client_ip for event in AuditEvent.objects.filter(via="api")} == {"127.0.0.1"}


def test_plain_http_is_rejected_even_if_the_client_claims_https(deployed: Deployed, secret: str) -> None:
    api = send(deployed.connect(tls=False), "/api/v1/me", bearer(secret) | FORGED)
    token = send(deployed.connect(tls=False), "/app/auth/token", FORGED, "POST", b"")
    page = send(deployed.connect(tls=False), "/sign-in/", FORGED)

    assert (api.status, json.loads(api.body)["code"]) == (403, 403)
    assert (token.status, json.loads(token.body)["error"]) == (403, "invalid_request")
    assert (page.status, page.headers["Location"]) == (301, f"https://{HOST}/sign-in/")


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "//healthz", "/%68ealthz", "/x/../readyz"])
def test_probes_are_not_exposed(path: str, deployed: Deployed) -> None:
    assert send(deployed.connect(), path, {}).status == 404


def test_the_logs_of_nginx_have_no_key_and_no_query_string(deployed: Deployed, secret: str) -> None:
    part = secret.rpartition("_")[2]
    referer = {"Referer": f"https://{HOST}/?a={secret}"}
    send(deployed.connect(), f"/api/v1/me?a={secret}", referer)
    send(deployed.connect(), f"/api/v1/me?a={secret}", referer, "POST", b"x" * TOO_LARGE)
    paths = [secret, part, secret.replace("_", "%255f")]
    ids = [f"a-request-with-a-key-{number}" for number in range(len(paths))]
    for path, request_id in zip(paths, ids, strict=True):
        send(deployed.connect(), f"/api/v1/{path}?a={secret}", {"X-Request-Id": request_id})

    def lines() -> list[dict[str, Any]]:
        return [json.loads(line) for line in deployed.nginx.access_log.splitlines()]

    logged = wait_until(lambda: [line for line in lines() if line["requestId"] == ids[-1]] and lines())
    assert [line["path"] for line in logged if line["requestId"] in ids] == ["(contains a key)"] * 3
    assert part not in deployed.nginx.access_log + (deployed.nginx.directory / "error.log").read_text()


# ---- errors of nginx ----


@pytest.mark.parametrize("chunked", [False, True], ids=["Content-Length", "chunked"])
def test_oversized_bodies_are_rejected_in_the_format_of_the_path(chunked: bool, deployed: Deployed) -> None:
    message = "The body is too large."

    length = {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": str(TOO_LARGE)}
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (TOO_LARGE, b"x" * TOO_LARGE) if chunked else None

    api, token, page = [
        send(deployed.connect(), path, JSON | length, "POST", body)
        for path in (f"{API}/tasks", "/app/auth/token", "/sign-in/")
    ]

    assert [response.status for response in (api, token, page)] == [413] * 3
    assert json.loads(api.body) == {"code": 413, "message": message}
    assert json.loads(token.body) == {"error": "invalid_request", "error_description": message}
    assert f"<h1>{message}</h1>" in page.body.decode()
    for response in (api, token, page):
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["X-Request-Id"]


LONG = "a" * 70_000


@pytest.mark.parametrize(
    ("request_line", "header", "status"),
    [
        ("GET /api/v1/me HTTP/1.1", f"X-Long: {LONG}", 400),
        (f"GET /api/v1/me?{LONG} HTTP/1.1", "", 414),
        ("TRACE /api/v1/me HTTP/1.1", "", 405),
        ("POST /api/v1/me HTTP/1.1", "Transfer-Encoding: unknown", 501),
        ("nonsense", "", 400),
    ],
)
def test_malformed_requests_get_json(request_line: str, header: str, status: int, deployed: Deployed) -> None:
    lines = [request_line, f"Host: {HOST}", *([header] if header else []), "", ""]
    with socket.create_connection(("127.0.0.1", deployed.nginx.port), TIMEOUT) as connection:
        connection.sendall("\r\n".join(lines).encode())
        response = HTTPResponse(connection)
        response.begin()
        body = json.loads(response.read())

    assert (response.status, body["code"]) == (status, status)


def test_a_request_within_the_limits_reaches_the_application(deployed: Deployed, secret: str) -> None:
    body = json.dumps({"title": "Ship", "description": "x" * 1_000_000}).encode()
    too_long = send(deployed.connect(), f"{API}/tasks", JSON | bearer(secret), "POST", body)
    long_url = send(deployed.connect(), f"/api/v1/me?{'a' * 15_000}", bearer(secret))

    assert (too_long.status, long_url.status) == (400, 400)
    assert list(json.loads(too_long.body)["errors"]) == ["description"]


def test_without_web_processes_each_client_gets_a_502_in_its_format(tmp_path: Path) -> None:
    message = "The service is temporarily unavailable, retry shortly."
    with nginx(tmp_path, [free_port()], tmp_path) as proxy:

        def get(path: str, method: str = "GET") -> Any:
            return send(HTTPConnection("127.0.0.1", proxy.port, timeout=TIMEOUT), path, {}, method)

        api, token, page, docs = get("/api/v1/me"), get("/app/auth/token", "POST"), get("/sign-in/"), get("/api/docs")

    assert {(response.status, response.headers["Retry-After"]) for response in (api, token, page, docs)} == {(502, "5")}
    assert json.loads(api.body) == {"code": 502, "message": message}
    assert json.loads(token.body) == {"error": "temporarily_unavailable", "error_description": message}
    assert page.body == docs.body
    assert f"<h1>{message}</h1>" in page.body.decode()


def test_nginx_accepts_its_configuration_without_a_warning(deployed: Deployed) -> None:
    configuration = str(deployed.nginx.directory / "nginx.conf")
    command = [program("nginx", install=INSTALL), "-t", "-q", "-e", "stderr", "-c", configuration]
    tested = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)

    assert (tested.returncode, tested.stderr) == (0, "")


# ---- static files ----

# Different for each response, or about the connection.
VARYING = {"date", "server", "connection", "accept-ranges", "x-request-id", "etag"}


def comparable(response: Any) -> dict[str, str]:
    return {
        name.lower(): value.replace('"', "") for name, value in response.headers.items() if name.lower() not in VARYING
    }


def static_files(directory: Path) -> Iterator[str]:
    """Yield the URL path of one file of each type, and of one with a digest in its name."""
    files = [path for path in sorted(directory.rglob("*.*")) if path.suffix != ".gz" and path.is_file()]
    one_of_each = {(path.suffix if len(path.suffix) < 6 else "", path.stem.count(".") > 0): path for path in files}
    for path in one_of_each.values():
        yield f"/static/{path.relative_to(directory)}"


def test_static_files_come_from_nginx_with_the_headers_of_the_application(
    deployed: Deployed, collected: dict[str, str]
) -> None:
    paths = list(static_files(Path(collected["COLLECTED"])))
    assert len(paths) > 10
    for path in [*paths, "/static/missing.css"]:
        for encoding in ("identity", "gzip"):
            headers = {"Accept-Encoding": encoding, "X-Forwarded-Proto": "https"}
            expected, served = send(deployed.connect_directly(), path, headers), send(deployed.connect(), path, headers)
            assert (path, served.status, comparable(served)) == (path, expected.status, comparable(expected))
            assert served.body == expected.body
            assert (served.headers["Server"], bool(served.headers["ETag"])) == ("nginx", bool(expected.headers["ETag"]))


def test_over_plain_http_static_files_redirect_known_hosts_only(deployed: Deployed) -> None:
    path = "/static/css/app.css"
    redirect = send(deployed.connect(tls=False), path, {})
    unknown = send(deployed.connect(tls=False), path, {"Host": "other.example"})

    assert (redirect.status, redirect.headers["Location"]) == (301, f"https://{HOST}{path}")
    assert (unknown.status, unknown.headers["Location"]) == (400, None)
    assert {response.headers["Cache-Control"] for response in (redirect, unknown)} == {"no-store"}


def test_no_range_of_a_static_file_makes_a_response_that_a_cache_could_keep(deployed: Deployed) -> None:
    response = send(deployed.connect(), "/static/css/app.css", {"Range": "bytes=9999999-"})

    assert (response.status, "text/css" in response.headers["Content-Type"]) == (200, True)


# ---- a reload ----


@contextmanager
def requests(clients: dict[str, Callable[[], HTTPConnection]], secret: str) -> Iterator[Counter[tuple[str, int]]]:
    """Read and write during the block, with two threads for each client. Yield the statuses; 0 is a lost request."""
    outcomes: Counter[tuple[str, int]] = Counter()
    headers = JSON | bearer(secret) | {"X-Forwarded-Proto": "https"}
    stop = threading.Event()

    def run(name: str, connect: Callable[[], HTTPConnection]) -> None:
        while not stop.is_set():
            for method, path, body in (("GET", "/api/v1/me", None), ("POST", f"{API}/tasks", b'{"title": "Ship"}')):
                try:
                    status = send(connect(), path, headers, method, body).status
                except OSError:
                    status = 0
                outcomes[f"{method} {name}", status] += 1
            stop.wait(0.05)

    threads = [threading.Thread(target=run, args=client) for client in clients.items() for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield outcomes
    finally:
        stop.set()
        for thread in threads:
            thread.join(TIMEOUT)


def reload(deployed: Deployed) -> bool:
    """Reload, and return whether the new worker was ready before granian stopped the old one."""
    before = len(deployed.log.read_text())
    deployed.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "Stopped old worker-1" in deployed.log.read_text()[before:], deployed.log.read_text)
    started, _, _ = deployed.log.read_text()[before:].partition("Stopping old worker-1")
    return "Started worker-1" in started


def test_a_reload_loses_no_request(deployed: Deployed, workspace: Workspace, secret: str) -> None:
    """Directly and through nginx, while a new worker takes longer to start than granian waits by default."""
    deployed.slow_start.touch()
    clients = {"granian": deployed.connect_directly, "nginx": deployed.connect}
    expected = {("GET granian", 200), ("POST granian", 201), ("GET nginx", 200), ("POST nginx", 201)}
    created = 0
    # Another attempt if the machine was too busy to start a worker within the interval, or if a worker that stopped
    # closed one connection before it read the request, which docs/operations.md says of granian.
    for _ in range(3):
        wait_until_responding(f"http://127.0.0.1:{deployed.port}/healthz", deployed.process, deployed.log)
        with requests(clients, secret) as outcomes:
            was_ready = reload(deployed)
        created += sum(count for (_, status), count in outcomes.items() if status == 201)
        lost = outcomes.total() - sum(outcomes[outcome] for outcome in expected)
        if was_ready and lost != 1:
            break
    deployed.slow_start.unlink()

    assert (was_ready, lost) == (True, 0), outcomes
    assert set(outcomes) == expected
    assert Task.objects.count() == created
