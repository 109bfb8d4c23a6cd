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
from urllib.parse import unquote

import pytest
from django.test import RequestFactory
from django.utils.module_loading import import_string
from hypothesis import example, given
from hypothesis import strategies as st

from apikeys import keys
from apikeys.models import ApiKey
from core.logs import JsonFormatter, redact
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


# ---- keys in other forms ----


def escaped(text: str, times: int = 1, case: Callable[[str], str] = str.upper) -> str:
    """Return `text` with every character percent-encoded, `times` times."""
    for _ in range(times):
        text = "".join("%" + case(f"{ord(character):02x}") for character in text)
    return text


# Always the same: a part without any digit looks like an identifier, and is not redacted.
FIXED = "one_8kJ2mQ4xZt7c_Kq3Zt8Rb1WxN5vPc7YhL2mDf9GsJ4kTu6QaE0oBiXrVaB3dE5"
UNKNOWN = FIXED[17:]  # the secret and its checksum
LETTERS = "".join(c if i % 2 else escaped(c, case=str.lower) for i, c in enumerate(FIXED))
KEYS_IN_DISGUISE = {
    "percent-encoded": escaped(FIXED),
    "percent-encoded in lower case": escaped(FIXED, case=str.lower),
    "percent-encoded twice": escaped(FIXED, 2),
    "percent-encoded three times": escaped(FIXED, 3),
    "percent signs encoded ten times": FIXED.replace("_", "%" + "25" * 10 + "5f"),
    "every second letter percent-encoded": LETTERS,
    "every second letter percent-encoded twice": LETTERS.replace("%", "%25"),
    "percent-encoded underscores": FIXED.replace("_", "%5F"),
    "percent-encoded underscores, twice": FIXED.replace("_", "%255f"),
    "percent-encoded prefix": f"{escaped('one')}{FIXED[3:]}",
    "percent-encoded prefix, twice": f"%256Fne{FIXED[3:]}",
    "in other case": f"ONE{FIXED[3:]}",
    "cut": FIXED[:30],
    "cut and percent-encoded": FIXED[:30].replace("_", "%5F"),
    "cut in a percent-escape": f"{FIXED[:30]}%5",
    "without the first letter": FIXED[1:],
    "without the prefix": FIXED[4:],
    "without the prefix, and cut": FIXED[4:37],
    "without a part of the key id": FIXED[8:],
    "without the key id": UNKNOWN,
    "without the key id, percent-encoded": UNKNOWN.replace(UNKNOWN[5], escaped(UNKNOWN[5])),
    "without the key id and the checksum": FIXED[17:60],
    "split by a slash": f"{FIXED[:35]}/{FIXED[35:]}",
    "split by an encoded slash": f"{FIXED[:35]}%252F{FIXED[35:]}",
    "split by a space": f"{FIXED[:35]}%20{FIXED[35:]}",
    "split by a line break": f"{FIXED[:35]}%0D%0A{FIXED[35:]}",
    "split into many parts": "-".join([FIXED[:17], *(UNKNOWN[start : start + 7] for start in range(0, 49, 7))]),
}


def reveals_secret(text: str) -> bool:
    """Return whether `text` has 9 characters of the secret in a row, also percent-encoded."""
    for _ in range(12):
        text = unquote(text)
    return any(UNKNOWN[start : start + 9] in text for start in range(len(UNKNOWN) - 8))


@pytest.mark.parametrize("formatter", FORMATTERS.values(), ids=FORMATTERS.keys())
@pytest.mark.parametrize("text", KEYS_IN_DISGUISE.values(), ids=KEYS_IN_DISGUISE.keys())
def test_a_key_in_disguise_is_not_logged(text: str, formatter: Callable[[], Any]) -> None:
    for value in (text, f"/api/v1/workspaces/{text}/tasks", f"GET /?key={text} HTTP/1.1", unquote(text)):
        with logger_with(formatter()) as (logger, written):
            logger.info("GET %s", value, extra={"requestId": value, "status": 404})

        assert not reveals_secret(written.getvalue())
        assert "404" in written.getvalue()


@pytest.mark.parametrize(
    "text",
    [
        "/api/v1/workspaces/w_01m83qzst0zcnkxc4pnwv1f2kw/tasks/tsk_01m83qzst0zcnkxc4pnwv1f2kw",
        "/search/100%25/%C3%A9t%C3%A9%20a%2Fb",
        "/%%%zz%2",
        "requestId=9f86d081884c7d659a2feaa0c55ad015 SHA-256=9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c",
        "django.contrib.auth.password_validation.UserAttributeSimilarityValidator",
        f"{FIXED[:17]}… was used, and /w/{FIXED[:17]}…/tasks",
    ],
)
def test_text_that_only_resembles_a_key_is_logged_unchanged(text: str) -> None:
    assert redact(text) == text


def test_lines_before_and_after_an_encoded_key_stay_lines() -> None:
    assert redact(f"a %41\nGET /{escaped(FIXED)}%0Ab\nc\n") == f"a %41\nGET /{FIXED[:17]}…\\nb\nc\n"


def test_a_text_that_is_encoded_without_end_is_redacted() -> None:
    assert redact(f"GET /%{'25' * 200}41") == "[redacted]"


@given(st.text(st.sampled_from("%25aB_1one \n/…"), max_size=60))
def test_redacting_twice_changes_nothing(text: str) -> None:
    once = redact(text)

    assert redact(once) == once


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
        rf"clientIp=203\.0\.113\.7 requestId={response['X-Request-Id']} "
        rf"route=api/v1/workspaces/<str:workspace_id>/tasks key={api_key.current_secret.key_id} "
        rf"workspace={workspace.pk}$",
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
        "route": "api/v1/workspaces/<str:workspace_id>/tasks",
        "key": api_key.current_secret.key_id,
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
    assert f"key={api_key.current_secret.key_id}" in line


@pytest.mark.django_db
@pytest.mark.parametrize("cut", [slice(-1), slice(30), slice(17), slice(16), slice(4, None)])
def test_the_line_of_a_malformed_key_has_its_id_if_it_is_complete(
    cut: slice, api_key: ApiKey, secret: str, caplog: pytest.LogCaptureFixture
) -> None:
    Api(secret[cut]).get("/me")

    (record,) = request_lines(caplog)
    line = FORMATTERS["line"]().format(record)
    assert " status=401 " in line
    assert " reason=malformed" in line
    assert (f" key={api_key.current_secret.key_id}" in line) is secret[cut].startswith(secret[:17])
    assert secret[17:26] not in line


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


@pytest.mark.django_db
def test_a_long_path_is_cut(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    api.get(f"/{'x' * 100_000}")

    (record,) = request_lines(caplog)
    for formatter in FORMATTERS.values():
        assert len(formatter().format(record)) < 5000


@pytest.mark.django_db
@pytest.mark.parametrize("text", KEYS_IN_DISGUISE.values(), ids=KEYS_IN_DISGUISE.keys())
def test_a_key_in_disguise_in_a_path_or_a_request_id_is_not_logged(
    text: str, api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    response = api.get(f"/workspaces/{text}/tasks", headers={"X-Request-Id": text[:64]})

    (record,) = request_lines(caplog)
    for formatter in FORMATTERS.values():
        assert not reveals_secret(formatter().format(record))
    assert not reveals_secret(response["X-Request-Id"])


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
