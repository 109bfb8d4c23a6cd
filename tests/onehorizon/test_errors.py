"""Every error under /api/ has the JSON envelope, with DEBUG on and off: no HTML, no stack trace."""

from __future__ import annotations

import gzip
import io
import re
import select
from typing import Any

import pytest
from django import db
from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import include, path
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from core.logs import LineFormatter
from tests.helpers import Api, commits, make_token, make_user
from workspaces import quota
from workspaces.api import ApiView
from workspaces.models import Tier, Workspace

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

TASKS = "/workspaces/current/tasks"
POLICY = '"standard";q=200;w=900, "burst";q=40;w=60'
MIB = 1024 * 1024


class FailingView(ApiView):
    permission_classes = [AllowAny]

    def get(self, request: Request) -> Response:
        raise ZeroDivisionError(f"with {request.headers.get('Authorization')}")


class UnrenderableView(ApiView):
    permission_classes = [AllowAny]

    def get(self, request: Request) -> Response:
        return Response({"value": object()})


def failing_function(request: HttpRequest) -> HttpResponse:
    raise ZeroDivisionError


DATABASE_ERRORS = {
    db.OperationalError: 503,
    db.InterfaceError: 503,
    db.InternalError: 503,
    db.DataError: 400,
    db.IntegrityError: 500,
    db.ProgrammingError: 500,
    db.NotSupportedError: 500,
    db.DatabaseError: 500,
}


def failing_query(request: HttpRequest, name: str) -> HttpResponse:
    raise getattr(db, name)("by the database")


def idle_transaction(request: HttpRequest) -> HttpResponse:
    """Wait in a transaction until PostgreSQL ends it.

    After a shorter time its message could arrive together with the response to SET, and libpq would drop it.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 500")
        select.select([connection.connection], [], [])
        cursor.execute("SELECT 1")
    return HttpResponse()


urlpatterns = [
    path("api/v1/failing", FailingView.as_view()),
    path("api/v1/unrenderable", UnrenderableView.as_view()),
    path("api/v1/failing-function", failing_function),
    path("api/v1/failing-query/<name>", failing_query),
    path("failing-query/<name>", failing_query),
    path("api/v1/idle", idle_transaction),
    path("idle", idle_transaction),
    path("", include("onehorizon.urls")),
]
handler400 = "onehorizon.errors.bad_request"
handler404 = "onehorizon.errors.not_found"
handler500 = "onehorizon.errors.server_error"


@pytest.fixture(params=[True, False], ids=["DEBUG on", "DEBUG off"])
def debug(request: pytest.FixtureRequest, settings: Any) -> bool:
    settings.DEBUG = request.param
    return settings.DEBUG is True


def assert_envelope(response: Any, status: int) -> None:
    assert response.status_code == status
    assert response["Content-Type"] == "application/json"
    body = response.json()
    assert set(body) - {"errors"} == {"code", "message"}
    assert body["code"] == status
    assert re.fullmatch(r"[^\n<>]+", body["message"])
    assert ("errors" in body) <= (status == 400)


def raw(data: bytes, content_type: str = "application/json") -> dict[str, Any]:
    return {"data": data, "content_type": content_type}


# ---- paths and methods ----


@pytest.mark.usefixtures("debug")
@pytest.mark.parametrize(
    "url",
    [
        "/nowhere",
        "/",
        "",
        "/me/",
        "/../v2/me",
        "/../../api/",
        "/%00",
        "/me%00",
        "/%0A",
        "/a%0Ab",
        "/%0D%0ASet-Cookie:x=y",
        "/%FF",
        "/%ED%A0%80",
        "/%",
        "/%zz",
        "/%E0%A4",
        "/workspaces/%2F/tasks",
        "/workspaces//tasks",
        "/workspaces/current/tasks/%2e%2e",
        "/workspaces/w_%F0%9F%90%8C",
        "/" + "a" * 5000,
        "/<script>alert(1)</script>",
    ],
)
def test_an_unknown_path_is_404_with_and_without_a_key(url: str, api: Api) -> None:
    assert_envelope(api.get(url), 404)
    anonymous = Api().get(url)
    assert_envelope(anonymous, 401 if url.startswith("/workspaces/") and "//" not in url and "%2F" not in url else 404)


@pytest.mark.usefixtures("debug")
@pytest.mark.parametrize("method", ["PUT", "POST", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"])
def test_an_unsupported_method_is_405(method: str, api: Api) -> None:
    response = api.request(method, "/me")

    assert_envelope(response, 405)
    assert response["Allow"] == "GET, HEAD"


# ---- formats and bodies ----


@pytest.mark.usefixtures("debug")
@pytest.mark.parametrize("accept", ["text/html", "application/xml", "text/*", "nonsense"])
def test_a_format_other_than_json_is_406(accept: str, api: Api) -> None:
    assert_envelope(api.get("/me", headers={"Accept": accept}), 406)


@pytest.mark.parametrize(
    "accept", ["*/*", "application/*", "application/json", "text/html,application/xhtml+xml,*/*;q=0.8"]
)
def test_any_accept_header_that_includes_json_gets_json(accept: str, api: Api) -> None:
    response = api.get("/me", headers={"Accept": accept})

    assert (response.status_code, response["Content-Type"]) == (200, "application/json")


def test_a_request_without_an_accept_header_gets_json(api: Api) -> None:
    assert api.get("/me")["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    "url", ["/me/", "/me//", "/workspaces/", "/workspaces/current/tasks/", f"{TASKS}/tsk_1/", "/openapi.json/"]
)
def test_an_extra_trailing_slash_is_404_that_says_what_to_do(url: str, api: Api) -> None:
    for client, method in ((api, "GET"), (api, "POST"), (Api(), "DELETE")):
        response = client.request(method, url)
        assert_envelope(response, 404)
        assert response.json()["message"] == "This path does not exist. Remove the trailing slash."
    assert api.get("/me")["RateLimit"].startswith('"standard";r=197;')


@pytest.mark.parametrize(
    "url", ["", "/", "/..", "/../", "/nowhere", "/nowhere/", "/../me", "/Me", "/tasks?status=open"]
)
def test_another_unknown_path_is_404_that_names_the_documentation(url: str, api: Api) -> None:
    for client in (api, Api()):
        response = client.get(url)
        assert_envelope(response, 404)
        assert response.json()["message"] == "This path does not exist. See http://testserver/docs/api/."
    assert api.get("/me")["RateLimit"].startswith('"standard";r=198;')


def test_the_url_does_not_choose_the_format(api: Api) -> None:
    assert api.get("/me?format=html").json()["errors"].keys() == {"format"}
    assert_envelope(api.get("/me.json"), 404)


@pytest.mark.parametrize(
    "content_type",
    [
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain",
        "text/json",
        "application/xml",
        "application/jsonp",
        "nonsense",
        "",
    ],
)
def test_a_body_that_is_not_json_is_415(content_type: str, api: Api) -> None:
    assert_envelope(api.request("POST", TASKS, **raw(b'{"title":"Ship it"}', content_type)), 415)


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8", "Application/JSON"])
def test_every_spelling_of_the_json_media_type_is_accepted(content_type: str, api: Api) -> None:
    assert api.request("POST", TASKS, **raw(b'{"title":"Ship it"}', content_type)).status_code == 201


@pytest.mark.parametrize(
    "body",
    [
        b'{"title":',
        b'{"title":"Ship it"',
        b'{"title":"Ship it",}',
        b'{"title":"Ship it"}}',
        b'{"title":"Ship it"} {"title":"Ship it"}',
        b"{'title':'Ship it'}",
        b"{title:1}",
        b"title",
        b" ",
        b"\n",
        b'{"title":NaN}',
        b'{"title":Infinity}',
        b'{"title":-Infinity}',
        b'{"title":01}',
        b'{"title":"\\ud800"}',
        b'{"title":"\\x41"}',
        b'{"title":"a\nb"}',
        b'{"title":"a\0b"}',
        b'{"title":"\xff"}',
        b'{"title":"\xed\xa0\x80"}',
        b'// a comment\n{"title":"Ship it"}',
        "\ufeff".encode(),
        "\ufeff\ufeff".encode() + b'{"title":"Ship it"}',
        '{"title":"Ship it"}'.encode("utf-16"),
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"title":' * 20_000,
        b"\x00",
    ],
    ids=lambda body: repr(body[:24]),
)
def test_malformed_json_is_400(body: bytes, api: Api) -> None:
    response = api.request("POST", TASKS, **raw(body))

    assert_envelope(response, 400)
    assert response.json()["message"] == "The body is not well-formed JSON."


def test_a_byte_order_mark_before_json_is_ignored(api: Api) -> None:
    response = api.request("POST", TASKS, **raw("\ufeff".encode() + '{"title":"Ship it ✓"}'.encode()))

    assert (response.status_code, response.json()["title"]) == (201, "Ship it ✓")


def test_a_body_with_a_content_encoding_is_415(api: Api) -> None:
    body = raw(gzip.compress(b'{"title":"Ship it"}'))
    for encoding in ("gzip", "GZIP", "deflate", "br", "zstd", "identity, gzip", "nonsense"):
        response = api.request("POST", TASKS, **body, headers={"Content-Encoding": encoding})

        assert_envelope(response, 415)
        assert response.json()["message"] == "Send the body uncompressed, without a Content-Encoding."


def test_a_body_with_the_identity_encoding_is_accepted(api: Api) -> None:
    for encoding in ("", "identity", "Identity"):
        response = api.request("POST", TASKS, **raw(b'{"title":"Ship it"}'), headers={"Content-Encoding": encoding})
        assert response.status_code == 201


def test_a_body_over_one_mebibyte_is_413(api: Api) -> None:
    overhead = len(b'{"title":""}')

    assert_envelope(api.request("POST", TASKS, **raw(b'{"title":"' + b"a" * (MIB - overhead) + b'"}')), 400)
    assert_envelope(api.request("POST", TASKS, **raw(b'{"title":"' + b"a" * (MIB - overhead + 1) + b'"}')), 413)
    assert_envelope(api.request("POST", TASKS, **raw(b" " * 3 * MIB)), 413)


@pytest.mark.usefixtures("debug")
def test_too_many_parameters_are_400(api: Api) -> None:
    assert_envelope(api.get(f"{TASKS}?" + "status=open&" * 1001), 400)


# ---- hosts ----


@pytest.mark.usefixtures("debug")
@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "a b", "[", "testserver:port", "a\nb"])
def test_an_unknown_host_is_400_in_the_envelope(host: str, api: Api) -> None:
    response = api.get("/me", headers={"Host": host})

    assert_envelope(response, 400)
    assert response.json()["message"] == "This host name is not served here."


# ---- server errors ----


@pytest.mark.usefixtures("debug")
@pytest.mark.parametrize("url", ["/failing", "/unrenderable", "/failing-function"])
def test_an_exception_is_a_500_that_reveals_nothing(
    url: str, api: Api, secret: str, caplog: pytest.LogCaptureFixture
) -> None:
    response = api.get(url)

    assert_envelope(response, 500)
    assert response.json()["message"] == "Something went wrong on our side. We've logged it."
    assert secret.encode() not in response.content
    assert "unhandled exception" in caplog.text
    assert "Traceback" in caplog.text


@pytest.mark.usefixtures("debug")
def test_a_missing_row_that_the_request_does_not_name_is_a_logged_500(caplog: pytest.LogCaptureFixture) -> None:
    person = Api(make_token(make_user("person")))
    Tier.objects.all().delete()

    response = person.get("/me")

    assert_envelope(response, 500)
    assert "Tier matching query does not exist" in caplog.text


@pytest.mark.usefixtures("debug")
@pytest.mark.parametrize(("error", "status"), DATABASE_ERRORS.items())
def test_every_database_error_has_a_response(
    error: type[Exception], status: int, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    client.raise_request_exception = False

    for prefix in ("/api/v1", ""):
        response = client.get(f"{prefix}/failing-query/{error.__name__}")
        assert response.status_code == status
        assert response.headers.get("Retry-After") == ("5" if status == 503 else None)
        lines = [LineFormatter().format(record) for record in caplog.records]
        assert len([line for line in lines if "by the database" in line]) == 1
        caplog.clear()
        if prefix:
            assert_envelope(response, status)


@commits
@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite does not end idle transactions")
def test_a_transaction_that_postgresql_ends_is_503(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    assert_envelope(client.get("/api/v1/idle"), 503)
    assert client.get("/idle").status_code == 503
    causes = [getattr(record, "cause", None) for record in caplog.records if record.name == "onehorizon.requests"]
    assert causes == ["idle_in_transaction_timeout"] * 2


# ---- bodies that are not received ----


@pytest.mark.parametrize("content_type", ["application/json", "application/x-www-form-urlencoded"])
def test_a_body_over_the_limit_is_413_before_anyone_is_authenticated(content_type: str, client: Client) -> None:
    body = b" " * 3 * MIB

    assert_envelope(client.post(f"/api/v1{TASKS}", body, content_type), 413)
    page = client.post("/sign-in/", body, content_type)
    assert page.status_code == 413
    assert b"<h1>The request is too large</h1>" in page.content
    assert client.post("/app/auth/token", body, content_type).json()["error_description"] == "The body is too large."


@pytest.mark.parametrize(("method", "path"), [("GET", TASKS), ("DELETE", f"{TASKS}/tsk_00000000000000000000000000")])
def test_the_limit_applies_to_operations_without_a_body_too(method: str, path: str) -> None:
    assert_envelope(Api().request(method, path, **raw(b" " * 3 * MIB)), 413)


def test_a_body_shorter_than_its_content_length_is_400(api: Api) -> None:
    body = b'{"title": "Ship"}'

    for url in (TASKS, "/../../sign-in/"):
        incomplete = {"CONTENT_LENGTH": str(len(body) + 1), "wsgi.input": io.BytesIO(body)}
        assert api.request("POST", url, **raw(body), **incomplete).status_code == 400


def test_a_request_that_raises_counts_against_the_quota(api: Api) -> None:
    response = api.get("/failing")

    assert response["RateLimit-Policy"] == POLICY
    assert response["RateLimit"].startswith('"standard";r=199;')


# ---- headers of every response ----

REQUEST_BY_STATUS: dict[int, tuple[str, str, dict[str, Any]]] = {
    200: ("GET", "/me", {}),
    201: ("POST", TASKS, raw(b'{"title":"Ship it"}')),
    400: ("POST", TASKS, raw(b"{")),
    401: ("GET", "/me", {"headers": {"Authorization": "Bearer one_"}}),
    404: ("GET", "/nowhere", {}),
    405: ("PUT", "/me", {}),
    406: ("GET", "/me", {"headers": {"Accept": "text/html"}}),
    413: ("POST", TASKS, raw(b" " * (MIB + 1))),
    415: ("POST", TASKS, raw(b"title=Ship", "application/x-www-form-urlencoded")),
    500: ("GET", "/failing", {}),
}
for_each_status = pytest.mark.parametrize(
    ("status", "method", "url", "options"),
    [(status, *request) for status, request in REQUEST_BY_STATUS.items()],
    ids=[str(status) for status in REQUEST_BY_STATUS],
)


@for_each_status
def test_every_response_is_not_cacheable_and_has_a_request_id(
    status: int, method: str, url: str, options: dict[str, Any], api: Api
) -> None:
    response = api.request(method, url, **options)

    assert response.status_code == status
    assert response["Cache-Control"] == "no-store"
    assert response["Content-Length"] == str(len(response.content))
    assert re.fullmatch(r"[0-9a-f]{32}", response["X-Request-Id"])
    assert "Set-Cookie" not in response


@for_each_status
def test_every_response_to_a_key_has_the_ratelimit_headers(
    status: int, method: str, url: str, options: dict[str, Any], api: Api
) -> None:
    response = api.request(method, url, **options)

    if status == 401:
        assert not response.has_header("RateLimit-Policy")
        assert not response.has_header("RateLimit")
    else:
        assert response["RateLimit-Policy"] == POLICY
        assert response["RateLimit"] == '"standard";r=199;t=900, "burst";r=39;t=60'


def test_a_204_and_a_429_have_the_headers_of_every_response(api: Api, workspace: Workspace) -> None:
    created = api.post(TASKS, {"title": "Ship it"}).json()
    deleted = api.delete(f"{TASKS}/{created['taskId']}")
    for _ in range(38):
        quota.admit(workspace.pk, workspace.tier)
    limited = api.get("/me")

    assert (deleted.status_code, limited.status_code) == (204, 429)
    assert_envelope(limited, 429)
    assert "Content-Length" not in deleted
    for response in (deleted, limited):
        assert response["Cache-Control"] == "no-store"
        assert response["X-Request-Id"]
        assert response["RateLimit-Policy"] == POLICY


def test_a_response_to_an_unknown_host_is_not_cacheable_and_has_a_request_id(api: Api) -> None:
    response = api.get("/me", headers={"Host": "evil.example"})

    assert response["Cache-Control"] == "no-store"
    assert response["X-Request-Id"]


# ---- X-Request-Id ----


@pytest.mark.parametrize(
    "request_id",
    ["abcdefgh", "7b4f4e4e-1b0f-4a52-9d5b-0a5d7c2d7a10", "A_b-C_d-1", "0" * 64, "01jbx5w3f8q9r2t4v6y8z0a1c3"],
)
def test_a_well_formed_request_id_is_kept(request_id: str, api: Api) -> None:
    assert api.get("/me", headers={"X-Request-Id": request_id})["X-Request-Id"] == request_id
    assert api.get("/nowhere", headers={"X-Request-Id": request_id})["X-Request-Id"] == request_id


@pytest.mark.parametrize(
    "request_id",
    [
        "",
        "short12",
        "0" * 65,
        "with a space",
        "line\nbreak-in-it",
        "abcdefgh\n",
        "ünicode-id",
        "semi;colon",
        "x" * 9000,
    ],
)
def test_a_malformed_request_id_is_replaced(request_id: str, api: Api) -> None:
    assert re.fullmatch(r"[0-9a-f]{32}", api.get("/me", headers={"X-Request-Id": request_id})["X-Request-Id"])


def test_no_two_requests_have_the_same_id(api: Api) -> None:
    assert len({api.get("/me")["X-Request-Id"] for _ in range(20)}) == 20
