"""A pytest plugin that searches for leaked secrets after each test. `conftest.py` registers it.

It records each secret where the code creates it: keys, tokens, codes, sessions, passwords, and their hashes. After each
test it searches the logs, responses and rows of that test for them, and for anything that has the format of a whole
API key or of an Argon2 hash.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from django.apps import apps
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.hashers import Argon2PasswordHasher
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.models import Session
from django.core.handlers.base import BaseHandler
from django.db import connection
from django.db.models.signals import pre_save
from oauth2_provider.models import AccessToken, RefreshToken

from apikeys import hashing, keys
from core.logs import JsonFormatter, LineFormatter
from oauth.models import Application, DeviceGrant, Grant

# Where a secret may appear: method, path and part of a response.
SHOWN = {
    "API key": r"POST (/api/v1/workspaces/\w+/api-keys(/\w+/rotate)?|"
    r"/w/\w+/settings/developer/api-keys/(add|\w+/rotate)/) body",
    "token": r"POST /app/auth/token body",
    "authorization code": r"(POST /app/auth/authorize Location|GET /app/auth/authorize (Location|Refresh))",
    "device code": r"POST /app/auth/device body",
    "user code": r"(POST /app/auth/device|GET /app/auth/device) body",
    "client secret": r"(GET|POST) /admin/oauth/application/add/ body",
    "session key": r"\w+ \S+ Set-Cookie",
}
# Secrets that may appear in one response only.
ONCE = {"API key", "token", "authorization code", "device code"}
# Columns that store hashes and proofs.
HASHES = {
    "apikeys_apikey.hash",  # until the next release
    "apikeys_apikey.shared_proof",
    "apikeys_storedsecret.hash",
    "apikeys_storedsecret.shared_proof",
    "workspaces_user.password",
    "oauth_application.client_secret",
}
ARGON2 = re.compile(r"\$argon2[a-z]*\$v=\d+\$m=\d+,t=\d+,p=\d+\$[\w+/]+\$[\w+/]{20,}")


class Leak(NamedTuple):
    kind: str
    location: str


class Sweep:
    def __init__(self) -> None:
        self.counted: Counter[str] = Counter()
        self.logs: dict[Path, int] = {}
        self.handler = Recorder(self)
        self.begin()

    def begin(self) -> None:
        """Forget the secrets, log lines and responses recorded so far."""
        self.secrets: dict[str, str] = {}
        self.lines: list[str] = []
        self.responses: list[tuple[str, str]] = []

    # ---- recording ----

    def record(self, kind: str, secret: Any) -> None:
        if isinstance(secret, str) and len(secret) >= 8 and secret not in self.secrets:
            self.secrets[secret] = kind
            self.counted[f"{kind}s"] += 1

    def record_response(self, request: Any, response: Any) -> None:
        endpoint = f"{request.method} {request.path}"
        location = response.headers.get("Location", "")
        head = "\n".join(f"{name}: {value}" for name, value in response.headers.items() if name != "Location")
        body = "" if response.streaming else response.content.decode("utf-8", "replace")
        cookies = response.cookies.output()
        parts = {"head": head, "Location": location, "Set-Cookie": cookies, "body": body}
        self.responses += [(f"{endpoint} {part}", text) for part, text in parts.items()]
        self.counted["responses"] += 1

    def watch(self, log: Path) -> None:
        """Also search this log of a server."""
        self.logs[log] = 0

    # ---- searching ----

    def leaks(self, *, database: bool) -> list[Leak]:
        self.lines += self.logged_by_servers()
        self.counted["log lines"] += len(self.lines)
        texts = {"logs": "\n".join(self.lines)}
        if database:
            texts |= self.rows()
        traces = [(kind, trace) for secret, kind in self.secrets.items() for trace in traces_of(kind, secret)]
        leaks = [
            Leak(kind, location) for location, text in texts.items() for kind, trace in traces if text and trace in text
        ]
        leaks += [Leak(kind, location) for location, text in texts.items() for kind in kinds_by_form(text)]
        return sorted({*leaks, *self.leaks_in_responses(traces)})

    def leaks_in_responses(self, traces: list[tuple[str, str]]) -> Iterator[Leak]:
        combined = "\n".join(text for _, text in self.responses)
        for kind, trace in traces:
            if trace in combined:
                locations = [location for location, text in self.responses if trace in text]
                allowed = SHOWN.get(kind)
                yield from (
                    Leak(kind, location) for location in locations if not (allowed and re.fullmatch(allowed, location))
                )
                if kind in ONCE and len(locations) > 1:
                    yield Leak(kind, f"{locations[-1]}, a second time")
        if ARGON2.search(combined):
            yield Leak("Argon2 digest", "responses")

    def logged_by_servers(self) -> Iterator[str]:
        for log, offset in self.logs.items():
            if log.exists():
                with log.open("rb") as file:
                    file.seek(offset)
                    yield from file.read().decode("utf-8", "replace").splitlines()
                    self.logs[log] = file.tell()

    def rows(self) -> dict[str, str]:
        """Return the text of every table that has rows, without the columns that store hashes."""
        if connection.in_atomic_block and connection.needs_rollback:
            return {}
        texts = {}
        with connection.cursor() as cursor:
            cursor.execute(has_rows(tables()))
            for table in itertools.compress(tables(), cursor.fetchone()):
                cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
                columns = [column[0] for column in cursor.description]
                kept = [i for i, column in enumerate(columns) if f"{table}.{column}" not in HASHES]
                rows = cursor.fetchall()
                self.counted["rows"] += len(rows)
                texts[table] = "\n".join(str(plain(row[i])) for row in rows for i in kept)
        if Session._meta.db_table in texts:
            texts["sessions, decoded"] = "\n".join(str(session.get_decoded()) for session in Session.objects.all())
        return texts


@functools.cache
def tables() -> list[str]:
    return sorted({model._meta.db_table for model in apps.get_models(include_auto_created=True)})


def has_rows(names: list[str]) -> str:
    """Return a statement whose row tells for each table whether it has rows: most tests use few tables."""
    return "SELECT " + ", ".join(f"EXISTS (SELECT 1 FROM {connection.ops.quote_name(name)})" for name in names)


def plain(value: Any) -> Any:
    return bytes(value).hex() if isinstance(value, bytes | memoryview) else value


def traces_of(kind: str, secret: str) -> list[str]:
    """Return the strings that identify this secret in a text."""
    if kind != "API key":
        return [secret]
    digest = hashlib.sha256(secret.encode()).hexdigest()
    return [secret[len("one_") + keys.KEY_ID_LENGTH + 1 :], digest]


def kinds_by_form(text: str) -> Iterator[str]:
    """Yield the kinds of secrets that a text contains, recognized by their format."""
    if any(keys.parse(match[0]) for match in keys.PATTERN.finditer(text)):
        yield "API key"
    if ARGON2.search(text):
        yield "Argon2 digest"


class Recorder(logging.Handler):
    """Collects each record as both formatters write it."""

    formatters = (LineFormatter(), JsonFormatter())

    def __init__(self, sweep: Sweep) -> None:
        super().__init__()
        self.sweep = sweep

    def emit(self, record: logging.LogRecord) -> None:
        self.sweep.lines += [formatter.format(record) for formatter in self.formatters]


sweep = Sweep()


def after_call(owner: Any, name: str, callback: Callable[..., None]) -> None:
    """Call `callback` with the result and the arguments of each call of `owner.name`."""
    original = owner.__dict__[name]
    function = original.__func__ if isinstance(original, classmethod) else original

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        callback(result, *args)
        return result

    setattr(owner, name, classmethod(wrapper) if isinstance(original, classmethod) else wrapper)


def record_digest(encoded: str) -> None:
    sweep.record("Argon2 digest", encoded.rsplit("$", 1)[1])


def record_codes(codes: Any, *_: Any) -> None:
    sweep.record("device code", codes.device_code)
    sweep.record("user code", codes.user_code)


def record_saved(instance: Any, **_: Any) -> None:
    """Record a secret before its digest or hash is saved."""
    match instance:
        case _ if not instance._state.adding:
            return
        case AccessToken() | RefreshToken():
            sweep.record("token", getattr(instance, "_raw_token", None))
        case Grant():
            sweep.record("authorization code", instance.code)
        case Application():
            sweep.record("client secret", instance.client_secret)


class Plugin:
    def pytest_configure(self, config: pytest.Config) -> None:
        config.addinivalue_line("markers", "plants_secrets: the test leaks a secret on purpose")
        after_call(keys, "generate", lambda key: sweep.record("API key", key.secret))
        after_call(hashing, "hash_secret", lambda encoded, _: record_digest(encoded))
        after_call(hashing, "shared_proof", lambda proof, *_: sweep.record("shared proof", proof.hex()))
        after_call(Argon2PasswordHasher, "encode", lambda encoded, *_: record_digest(encoded))
        after_call(AbstractBaseUser, "set_password", lambda _, user, raw: sweep.record("password", raw))
        after_call(SessionBase, "_get_new_session_key", lambda session_key, _: sweep.record("session key", session_key))
        after_call(DeviceGrant, "start", record_codes)
        pre_save.connect(record_saved)
        after_call(BaseHandler, "get_response", lambda response, _, request: sweep.record_response(request, response))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self) -> None:
        self.ran = False
        sweep.begin()
        for name in ("", "django"):
            logger = logging.getLogger(name)
            if sweep.handler not in logger.handlers:
                logger.addHandler(sweep.handler)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_call(self) -> None:
        self.ran = True

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Iterator[None]:
        names = {"db", "transactional_db"} & set(getattr(item, "fixturenames", []))
        has_database = bool(names) or item.get_closest_marker("django_db") is not None
        leaks = sweep.leaks(database=self.ran and has_database)
        yield
        if leaks and item.get_closest_marker("plants_secrets") is None:
            pytest.fail("\n".join(f"{leak.kind} in {leak.location}" for leak in leaks), pytrace=False)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput["sweep"] = dict(sweep.counted)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Add the counts of a pytest-xdist worker."""
        sweep.counted.update(getattr(node, "workeroutput", {}).get("sweep", {}))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        counted = ", ".join(f"{number:,} {name}" for name, number in sorted(sweep.counted.items()))
        terminalreporter.write_line(f"secrets sweep: {counted}")
