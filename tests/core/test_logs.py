"""One log line per request, and no credentials in any line, whatever code logs it."""

from __future__ import annotations

import base64
import io
import json
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.test import RequestFactory
from django.utils.module_loading import import_string
from hypothesis import example, given
from hypothesis import strategies as st

from apikeys import keys
from apikeys.models import ApiKey
from core.logs import JsonFormatter
from onehorizon import settings as configured
from tests.helpers import Api
from workspaces.models import Workspace

FORMATTERS = {name: import_string(formatter["()"]) for name, formatter in configured.LOGGING["formatters"].items()}  # type: ignore[attr-defined]

KEY = keys.generate()
SECRET = KEY.secret
BASIC = base64.b64encode(b"aladdin:open sesame, please").decode()
SESSION = "k3v9q0session8h2m"
CREDENTIALS = [SECRET[17:], BASIC, SESSION]

HEADERS = {"Accept": "*/*", "Authorization": f"Bearer {SECRET}", "Cookie": f"theme=dark; sessionid={SESSION}"}
BASIC_HEADERS = {"authorization": f"Basic {BASIC}", "Host": "onehorizon.example"}
QUOTED_COOKIE = {"Cookie": f'messages="a\\"b"; sessionid={SESSION}; theme=dark'}
REQUEST = RequestFactory().get(
    "/api/v1/me?cursor=the-query",
    headers={"Authorization": f"Bearer {SECRET}", "Cookie": f"sessionid={SESSION}"},
)


@contextmanager
def logger_with(formatter: logging.Formatter) -> Iterator[tuple[logging.Logger, io.StringIO]]:
    """Yield a new logger, whose records no other handler gets, and its output."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(formatter)
    logger = logging.Logger("tests", logging.DEBUG)
    logger.addHandler(handler)
    yield logger, written


def log_exception_with_secrets(logger: logging.Logger) -> None:
    try:
        try:
            raise KeyError(SECRET)
        except KeyError as error:
            raise ValueError(f"no such key: Authorization: Basic {BASIC}") from error
    except ValueError:
        logger.exception("looking up %s", SECRET)


LOG_CALLS: dict[str, Callable[[logging.Logger], None]] = {
    "in the message": lambda logger: logger.info(f"made {SECRET}, keep it"),  # noqa: G004, as careless code does
    "as an argument": lambda logger: logger.info("made %s for %s", SECRET, "acme"),
    "as a dict of arguments": lambda logger: logger.info("made %(secret)s", {"secret": SECRET}),
    "in a message that is an object": lambda logger: logger.info({"secret": SECRET, "headers": HEADERS}),
    "twice on a line": lambda logger: logger.info("%s and %s", SECRET, SECRET),
    "between other letters": lambda logger: logger.info("key=%s&x=1 (%s)", SECRET, f"x{SECRET}x"),
    "truncated": lambda logger: logger.info("starts with %s", SECRET[:40]),
    "in extra": lambda logger: logger.info("made", extra={"secret": SECRET}),
    "nested in extra": lambda logger: logger.info("made", extra={"deep": [{"in": (SECRET, {SECRET: 1})}]}),
    "as bytes": lambda logger: logger.info("%r", SECRET.encode()),
    "as bytes in extra": lambda logger: logger.info("made", extra={"raw": SECRET.encode()}),
    "in a traceback": log_exception_with_secrets,
    "header dict": lambda logger: logger.info("%s", HEADERS),
    "header dict, Basic": lambda logger: logger.info("%s", BASIC_HEADERS),
    "header dict in extra": lambda logger: logger.info("asked", extra={"headers": HEADERS, "more": BASIC_HEADERS}),
    "header pairs": lambda logger: logger.info("%s", list(BASIC_HEADERS.items())),
    "header pairs in extra": lambda logger: logger.info("asked", extra={"headers": list(BASIC_HEADERS.items())}),
    "header pairs in bytes": lambda logger: logger.info("%s", [(b"authorization", b"Basic " + BASIC.encode())]),
    "headers as JSON": lambda logger: logger.info(json.dumps(BASIC_HEADERS | QUOTED_COOKIE)),
    "raw headers": lambda logger: logger.info(
        "GET / HTTP/1.1\r\nAuthorization: Basic %s\r\nCookie: sessionid=%s\r\n\r\n", BASIC, SESSION
    ),
    "a cookie with quotes": lambda logger: logger.info("%s", QUOTED_COOKIE),
    "a cookie with quotes in extra": lambda logger: logger.info("asked", extra=QUOTED_COOKIE),
    "Set-Cookie": lambda logger: logger.info("Set-Cookie: sessionid=%s; HttpOnly", SESSION),
    "Proxy-Authorization": lambda logger: logger.info("%s", {"Proxy-Authorization": f"Basic {BASIC}"}),
    "request.headers": lambda logger: logger.info("%s", REQUEST.headers),
    "request.META": lambda logger: logger.info("%s", REQUEST.META),
    "request.META in extra": lambda logger: logger.info("asked", extra={"meta": REQUEST.META}),
    "request.COOKIES": lambda logger: logger.info("%s", REQUEST.COOKIES),
    "request.COOKIES in extra": lambda logger: logger.info("asked", extra={"found": dict(REQUEST.COOKIES)}),
    "an OAuth token": lambda logger: logger.info("Bearer %s", BASIC.rstrip("=")),
    "in the name of a logger": lambda logger: logger.handle(
        logging.LogRecord(SECRET, logging.INFO, __file__, 1, "made", None, None)
    ),
}


@pytest.mark.parametrize("formatter", FORMATTERS.values(), ids=FORMATTERS.keys())
@pytest.mark.parametrize("log", LOG_CALLS.values(), ids=LOG_CALLS.keys())
def test_no_credential_is_logged(log: Callable[[logging.Logger], None], formatter: Callable[[], Any]) -> None:
    with logger_with(formatter()) as (logger, written):
        log(logger)

    text = written.getvalue()
    assert text
    for credential in (*CREDENTIALS, SECRET[17:40], BASIC.rstrip("=")):
        assert credential not in text


@pytest.mark.parametrize("formatter", FORMATTERS.values(), ids=FORMATTERS.keys())
def test_the_id_of_a_key_is_not_redacted(formatter: Callable[[], Any]) -> None:
    with logger_with(formatter()) as (logger, written):
        logger.info("revoked %s, on request", SECRET)

    assert f"revoked one_{KEY.key_id}_…, on request" in written.getvalue()


@pytest.mark.parametrize("formatter", FORMATTERS.values(), ids=FORMATTERS.keys())
@pytest.mark.parametrize(
    "message",
    [
        "the cookie is missing",
        'answered with WWW-Authenticate: Bearer realm="onehorizon"',
        f"key {KEY.key_id} used",
    ],
    ids=["cookie", "challenge", "key id"],
)
def test_other_text_is_logged_unchanged(message: str, formatter: Callable[[], Any]) -> None:
    with logger_with(formatter()) as (logger, written):
        logger.info(message)

    assert (json.dumps(message)[1:-1] if formatter is JsonFormatter else message) in written.getvalue()


@pytest.mark.parametrize("log", LOG_CALLS.values(), ids=LOG_CALLS.keys())
def test_a_json_line_is_one_object(log: Callable[[logging.Logger], None]) -> None:
    with logger_with(JsonFormatter()) as (logger, written):
        log(logger)

    (line,) = written.getvalue().removesuffix("\n").split("\n")
    assert {"time", "levelname", "name", "message"} <= set(json.loads(line))


@given(
    st.text(), st.dictionaries(st.sampled_from(["cookie", "Authorization", "x"]), st.none() | st.integers() | st.text())
)
@example("no cookie", {})
@example('Authorization: "', {})
@example("authorization", {"cookie": 5})
@example("Bearer", {"Authorization": None})
@example("a lone surrogate \ud800", {"x": "\udfff"})
@example("too large for 64 bits", {"x": 2**64, "cookie": -(2**70)})
@example("two\nlines\u2028and a half", {})
def test_any_record_is_one_json_object_with_its_fields(message: str, extra: dict[str, Any]) -> None:
    with logger_with(JsonFormatter()) as (logger, written):
        logger.info("%s", message, extra=extra)

    assert written.getvalue().endswith("\n")
    assert "\n" not in written.getvalue()[:-1]
    parsed = json.loads(written.getvalue())
    assert {"time", "levelname", "name", "message", *extra} <= set(parsed)
    assert (parsed["levelname"], parsed["name"]) == ("INFO", "tests")


# ---- request lines ----


def request_lines(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == "onehorizon.requests"]


@pytest.mark.django_db
def test_a_request_is_one_line_that_names_its_key(
    api: Api, api_key: ApiKey, workspace: Workspace, secret: str, caplog: pytest.LogCaptureFixture
) -> None:
    response = api.get("/workspaces/current/tasks?limit=7&kind=bug", REMOTE_ADDR="203.0.113.7")

    (record,) = request_lines(caplog)
    line, parsed = FORMATTERS["line"]().format(record), json.loads(FORMATTERS["json"]().format(record))
    assert re.search(
        r" INFO onehorizon\.requests: GET /api/v1/workspaces/current/tasks status=200 ms=[0-9.]+ "
        rf"clientIp=203\.0\.113\.7 requestId={response['X-Request-Id']} key={api_key.key_id} workspace={workspace.pk}$",
        line,
    )
    assert parsed | {"time": "", "ms": 0} == {
        "time": "",
        "levelname": "INFO",
        "name": "onehorizon.requests",
        "message": "GET /api/v1/workspaces/current/tasks",
        "method": "GET",
        "path": "/api/v1/workspaces/current/tasks",
        "status": 200,
        "ms": 0,
        "clientIp": "203.0.113.7",
        "requestId": response["X-Request-Id"],
        "key": api_key.key_id,
        "workspace": workspace.pk,
    }
    for text in (line, json.dumps(parsed)):
        assert secret[17:] not in text
        assert "limit" not in text


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("status", "method", "path"),
    [
        (200, "GET", "/me"),
        (400, "POST", "/workspaces/current/tasks"),
        (404, "GET", "/nowhere"),
        (404, "GET", "/workspaces/w_1"),
        (405, "PUT", "/me"),
    ],
)
def test_a_request_is_one_line_whatever_its_status(
    status: int, method: str, path: str, api: Api, api_key: ApiKey, caplog: pytest.LogCaptureFixture
) -> None:
    api.request(method, path)

    (record,) = request_lines(caplog)
    line = FORMATTERS["line"]().format(record)
    assert f"{method} /api/v1{path} status={status} " in line
    assert f"key={api_key.key_id}" in line


@pytest.mark.django_db
def test_the_line_of_a_rejected_key_does_not_contain_its_id(secret: str, caplog: pytest.LogCaptureFixture) -> None:
    Api(secret[:-1] + "!").get("/me")

    (record,) = request_lines(caplog)
    line = FORMATTERS["line"]().format(record)
    assert "status=401" in line
    assert "key=" not in line
    assert secret[17:40] not in caplog.text


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("path", "logged"),
    [
        ("/a%0Ab", r"/api/v1/a\nb "),
        ("/%0D%0A2030-01-01 INFO forged", r"/api/v1/\r\n2030-01-01 INFO forged "),
        ("/%1B[31m", r"/api/v1/\x1b[31m "),
        ("/%E2%80%A8", r"/api/v1/\u2028 "),
    ],
)
def test_a_path_can_not_forge_a_line(path: str, logged: str, api: Api, caplog: pytest.LogCaptureFixture) -> None:
    api.get(path)

    (record,) = request_lines(caplog)
    for formatter in FORMATTERS.values():
        assert "\n" not in formatter().format(record)
    assert len(FORMATTERS["line"]().format(record).splitlines()) == 1
    assert logged in FORMATTERS["line"]().format(record)


@pytest.mark.django_db
def test_a_secret_in_a_path_is_cut_to_its_id(api: Api, secret: str, caplog: pytest.LogCaptureFixture) -> None:
    api.get(f"/workspaces/{secret}/tasks")

    (record,) = request_lines(caplog)
    for formatter in FORMATTERS.values():
        assert secret[17:] not in formatter().format(record)
        assert secret[:17] in formatter().format(record)


def test_line_breaks_in_fields_are_escaped() -> None:
    with logger_with(FORMATTERS["line"]()) as (logger, written):
        logger.info("done", extra={"note": "one\n2030-01-01 INFO two", "count": 3, "request": REQUEST})

    assert written.getvalue().endswith(r"done note=one\n2030-01-01 INFO two count=3" + "\n")


@pytest.mark.parametrize("formatter", FORMATTERS.values(), ids=FORMATTERS.keys())
def test_a_request_logged_by_django_shows_no_query(formatter: Callable[[], Any]) -> None:
    """Django logs a 500 with the request in `extra`."""
    with logger_with(formatter()) as (logger, written):
        logger.error("Internal Server Error: %s", REQUEST.path, extra={"request": REQUEST, "status_code": 500})

    assert "/api/v1/me" in written.getvalue()
    assert "the-query" not in written.getvalue()
