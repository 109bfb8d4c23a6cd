"""Malformed headers and bodies over the network. Django's test client would encode requests itself."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import pytest

from apikeys.models import ApiKey
from tests.helpers import commits, lift_quota
from tests.processes import TIMEOUT
from workspaces.models import Task, Workspace

pytestmark = commits

TASKS = "/api/v1/workspaces/current/tasks"
JSON = {"Content-Type": "application/json"}
UNREADABLE = ["text/plain; a*=bogus''%41", "text/plain; charset*=utf-8''%00", "application/json; a*=bogus''%41"]


class Sender:
    def __init__(self, site: str, secret: str) -> None:
        self.site, self.secret = urlsplit(site).netloc, secret

    def send(self, method: str, path: str, body: bytes | Iterable[bytes] | None = None, **headers: str) -> Any:
        """Send a request and return the response, with its body as `text` and, if it is JSON, as `json`."""
        connection = http.client.HTTPConnection(self.site, timeout=TIMEOUT)
        all_headers = {"Authorization": f"Bearer {self.secret}"} | {n.replace("_", "-"): v for n, v in headers.items()}
        with suppress(BrokenPipeError, ConnectionResetError):  # the server responds, and closes, before the whole body
            connection.request(method, path, body, all_headers, encode_chunked=not isinstance(body, bytes | None))
        response: Any = connection.getresponse()
        response.text = response.read().decode()
        is_json = response.headers["Content-Type"] == "application/json"
        response.json = json.loads(response.text) if is_json and response.text else None
        connection.close()
        return response


@pytest.fixture
def sender(site: str, secret: str, workspace: Workspace) -> Sender:
    lift_quota(workspace)
    return Sender(site, secret)


# ---- methods and paths ----


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/api/v1/me", "GET, HEAD"),
        (TASKS, "GET, POST, HEAD"),
        ("/sign-in/", "GET, HEAD, POST, OPTIONS"),
        ("/healthz", "GET, HEAD"),
        ("/static/css/app.css", "GET, HEAD"),
    ],
)
def test_the_names_of_methods_are_case_sensitive(path: str, allow: str, sender: Sender) -> None:
    for method in ("get", "Get", "post", "Head"):
        response = sender.send(method, path, b"", **JSON)

        assert (response.status, response.headers["Allow"]) == (405, allow), method
        assert response.json == {"code": 405, "message": f'Method "{method}" not allowed.'} or "/api/" not in path
    assert not Task.objects.exists()


@pytest.mark.parametrize(
    "path",
    [
        "//api/v1/me",
        "/api//v1/me",
        "/api/v1//me",
        "/api/v1/%2Fme",
        "/x/../api/v1/me",
        "/x/%2e%2e/api/v1/me",
        "/api/v1/%2e%2e/v1/me",
        "/api/./v1/me",
        "/API/v1/me",
        "/api\\v1\\me",
        "/api%5Cv1%5Cme",
        "/api%252Fv1%252Fme",
        "/api;/v1/me",
        "/api/v1/me%00",
        "/api/v1/me%20",
        "/api/v1/me%0A",
        "/%EF%BC%8Fapi/v1/me",
        "/api/v1/m%EF%BD%85",
    ],
)
def test_only_the_exact_path_leads_to_an_operation(path: str, sender: Sender) -> None:
    assert sender.send("GET", path).status == 404


# ---- Content-Type ----


@pytest.mark.parametrize("content_type", [*UNREADABLE, "text/plain; charset=hex", "text/plain; charset=undefined"])
@pytest.mark.parametrize("path", ["/api/v1/me", f"{TASKS}?kind=bug", "/sign-in/?next=/", "/healthz"])
def test_an_unusual_content_type_causes_no_error(content_type: str, path: str, sender: Sender) -> None:
    response = sender.send("GET", path, Content_Type=content_type)

    assert response.status == 200
    assert "X-Request-Id" in response.headers or path == "/healthz"


@pytest.mark.parametrize("content_type", UNREADABLE)
def test_a_body_of_an_unsupported_type_is_rejected(content_type: str, sender: Sender) -> None:
    response = sender.send("POST", TASKS, b'{"title": "Ship"}', Content_Type=content_type)

    assert (response.status, response.json["code"]) == (415, 415)


@pytest.mark.parametrize("charset", ["utf-16", "hex", "unicode_escape", "punycode", "nonesuch"])
def test_a_body_is_read_as_utf_8_whatever_the_charset_parameter(charset: str, sender: Sender) -> None:
    body = '{"title": "Größe"}'.encode()

    response = sender.send("POST", TASKS, body, Content_Type=f"application/json; charset={charset}")

    assert (response.status, response.json["title"]) == (201, "Größe")


def test_a_key_in_the_content_type_is_in_no_log(sender: Sender, secret: str) -> None:
    """The sweep after each test reads the server's log."""
    assert sender.send("GET", "/api/v1/me", Content_Type=f"text/plain; a*={secret}''%41").status == 200


# ---- bodies in chunks ----


def test_a_chunked_body_is_read(sender: Sender, workspace: Workspace) -> None:
    created = sender.send("POST", TASKS, iter([b'{"title": ', b'"Ship"}']), **JSON, Transfer_Encoding="chunked")
    path = f"{TASKS}/{created.json['taskId']}"
    changed = sender.send("PATCH", path, iter([b'{"status": "review"}']), **JSON, Transfer_Encoding="chunked")

    assert (created.status, changed.status) == (201, 200)
    assert workspace.tasks.get().status == "review"


@pytest.mark.parametrize("mebibytes", [1, 5])
def test_a_chunked_body_over_the_limit_is_rejected(mebibytes: int, sender: Sender) -> None:
    chunks = iter([b'{"title": "', *[b"x" * 65536] * 16 * mebibytes, b'"}'])

    response = sender.send("POST", TASKS, chunks, **JSON, Transfer_Encoding="chunked")

    assert (response.status, response.json["code"]) == (413, 413)
    assert not Task.objects.exists()


# ---- forms ----


def multipart(headers: str) -> bytes:
    return f"--limit\r\n{headers}\r\n\r\nvalue\r\n--limit--\r\n".encode()


@pytest.mark.parametrize("path", ["/app/auth/token", "/sign-in/"])
@pytest.mark.parametrize(
    "headers",
    [
        'Content-Disposition: form-data; name="username"; filename="file"',
        "Content-Disposition: form-data; name*=bogus''%41",
        "Content-Disposition: form-data; name*=hex''%41",
    ],
    ids=["a file", "unknown charset", "charset that encodes no text"],
)
def test_a_form_with_a_file_or_a_malformed_form_is_rejected(headers: str, path: str, sender: Sender) -> None:
    response = sender.send("POST", path, multipart(headers), Content_Type="multipart/form-data; boundary=limit")

    assert response.status in (400, 403)  # 403: no CSRF token


@pytest.mark.parametrize("charset", ["hex", "punycode", "unicode_escape"])
def test_a_form_is_read_as_utf_8_whatever_the_charset_parameter(charset: str, sender: Sender, api_key: ApiKey) -> None:
    content_type = f"application/x-www-form-urlencoded; charset={charset}"

    response = sender.send("POST", "/app/auth/token", b"grant_type=value", Content_Type=content_type)

    assert (response.status, response.json) == (400, {"error": "unsupported_grant_type"})
