"""Every secret that is made while the suite runs is looked for where it must not be: at the end of each test, in all
that it logged, answered and stored. A plugin of pytest's, which `conftest.py` registers.

Secrets are noted where they are made, so whatever path led there counts: keys, tokens, codes, sessions, passwords, and
the hashes of them. What looks like a whole API key or an Argon2 hash is one, whoever made it.
"""

from __future__ import annotations

import functools
import hashlib
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

# Where a secret may be shown: method, path and part of an answer.
SHOWN = {
    "API key": r"POST (/api/v1/workspaces/\w+/api-keys|/w/\w+/settings/developer/api-keys/add/) body",
    "token": r"POST /app/auth/token body",
    "authorization code": r"POST /app/auth/authorize Location",
    "device code": r"POST /app/auth/device body",
    "user code": r"(POST /app/auth/device|GET /app/auth/device) body",
    "client secret": r"(GET|POST) /admin/oauth/application/add/ body",
    "session key": r"\w+ \S+ Set-Cookie",
}
ONCE = {"API key", "token", "authorization code", "device code"}
HASHES = {"apikeys_apikey.hash", "workspaces_user.password", "oauth_application.client_secret"}
ARGON2 = re.compile(r"\$argon2[a-z]*\$v=\d+\$m=\d+,t=\d+,p=\d+\$[\w+/]+\$[\w+/]{20,}")


class Leak(NamedTuple):
    kind: str
    place: str


class Sweep:
    def __init__(self) -> None:
        self.counted: Counter[str] = Counter()
        self.logs: dict[Path, int] = {}
        self.handler = Recorder(self)
        self.begin()

    def begin(self) -> None:
        """Forgets what was made, logged and answered until now."""
        self.made: dict[str, str] = {}
        self.lines: list[str] = []
        self.answers: list[tuple[str, str]] = []

    # ---- what the rest of the suite does ----

    def note(self, kind: str, secret: Any) -> None:
        if isinstance(secret, str) and len(secret) >= 8 and secret not in self.made:
            self.made[secret] = kind
            self.counted[f"{kind}s"] += 1

    def answered(self, request: Any, response: Any) -> None:
        where = f"{request.method} {request.path}"
        location = response.headers.get("Location", "")
        head = "\n".join(f"{name}: {value}" for name, value in response.headers.items() if name != "Location")
        body = "" if response.streaming else response.content.decode("utf-8", "replace")
        cookies = response.cookies.output()
        parts = {"head": head, "Location": location, "Set-Cookie": cookies, "body": body}
        self.answers += [(f"{where} {part}", text) for part, text in parts.items()]
        self.counted["answers"] += 1

    def watch(self, log: Path) -> None:
        """A server of its own writes this one."""
        self.logs[log] = 0

    # ---- looking ----

    def leaks(self, *, database: bool) -> list[Leak]:
        self.lines += self.logged_by_servers()
        self.counted["log lines"] += len(self.lines)
        places = {"logs": "\n".join(self.lines)}
        if database:
            places |= self.rows()
        traces = [(kind, trace) for secret, kind in self.made.items() for trace in traces_of(kind, secret)]
        found = [
            Leak(kind, place) for place, text in places.items() for kind, trace in traces if text and trace in text
        ]
        found += [Leak(kind, place) for place, text in places.items() for kind in of_a_form(text)]
        return sorted({*found, *self.shown(traces)})

    def shown(self, traces: list[tuple[str, str]]) -> Iterator[Leak]:
        together = "\n".join(text for _, text in self.answers)
        for kind, trace in traces:
            if trace in together:
                places = [place for place, text in self.answers if trace in text]
                allowed = SHOWN.get(kind)
                yield from (Leak(kind, place) for place in places if not (allowed and re.fullmatch(allowed, place)))
                if kind in ONCE and len(places) > 1:
                    yield Leak(kind, f"{places[-1]}, a second time")
        if ARGON2.search(together):
            yield Leak("Argon2 digest", "answers")

    def logged_by_servers(self) -> Iterator[str]:
        for log, offset in self.logs.items():
            if log.exists():
                with log.open("rb") as file:
                    file.seek(offset)
                    yield from file.read().decode("utf-8", "replace").splitlines()
                    self.logs[log] = file.tell()

    def rows(self) -> dict[str, str]:
        """The text of every table; not the columns that hashes are kept in."""
        if connection.in_atomic_block and connection.needs_rollback:
            return {}
        places = {}
        with connection.cursor() as cursor:
            for table in sorted({model._meta.db_table for model in apps.get_models(include_auto_created=True)}):
                cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
                columns = [column[0] for column in cursor.description]
                kept = [i for i, column in enumerate(columns) if f"{table}.{column}" not in HASHES]
                rows = cursor.fetchall()
                self.counted["rows"] += len(rows)
                places[table] = "\n".join(str(plain(row[i])) for row in rows for i in kept)
        places["sessions, decoded"] = "\n".join(str(session.get_decoded()) for session in Session.objects.all())
        return places


def plain(value: Any) -> Any:
    return bytes(value).hex() if isinstance(value, bytes | memoryview) else value


def traces_of(kind: str, secret: str) -> list[str]:
    """What gives it away."""
    if kind != "API key":
        return [secret]
    digest = hashlib.sha256(secret.encode()).hexdigest()
    return [secret[len("one_") + keys.KEY_ID_LENGTH + 1 :], digest]


def of_a_form(text: str) -> Iterator[str]:
    if any(keys.parse(found[0]) for found in keys.PATTERN.finditer(text)):
        yield "API key"
    if ARGON2.search(text):
        yield "Argon2 digest"


class Recorder(logging.Handler):
    """What is written of a record, in either format."""

    formatters = (LineFormatter(), JsonFormatter())

    def __init__(self, sweep: Sweep) -> None:
        super().__init__()
        self.sweep = sweep

    def emit(self, record: logging.LogRecord) -> None:
        self.sweep.lines += [formatter.format(record) for formatter in self.formatters]


sweep = Sweep()


def after(owner: Any, name: str, look: Callable[..., None]) -> None:
    """Has `look` see what each call of `owner.name` was given and returned."""
    original = owner.__dict__[name]
    function = original.__func__ if isinstance(original, classmethod) else original

    @functools.wraps(function)
    def watched(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        look(result, *args)
        return result

    setattr(owner, name, classmethod(watched) if isinstance(original, classmethod) else watched)


def note_codes(codes: Any, *_: Any) -> None:
    sweep.note("device code", codes.device_code)
    sweep.note("user code", codes.user_code)


def note_saved(instance: Any, **_: Any) -> None:
    """What is about to be kept as a digest or a hash."""
    match instance:
        case _ if not instance._state.adding:
            return
        case AccessToken() | RefreshToken():
            sweep.note("token", getattr(instance, "_raw_token", None))
        case Grant():
            sweep.note("authorization code", instance.code)
        case Application():
            sweep.note("client secret", instance.client_secret)


class Plugin:
    def pytest_configure(self, config: pytest.Config) -> None:
        config.addinivalue_line("markers", "plants_secrets: the test leaks, and looks for it itself")
        after(keys, "generate", lambda made: sweep.note("API key", made.secret))
        after(hashing, "hash_secret", lambda made, _: sweep.note("Argon2 digest", made.rsplit("$", 1)[1]))
        after(Argon2PasswordHasher, "encode", lambda made, *_: sweep.note("Argon2 digest", made.rsplit("$", 1)[1]))
        after(AbstractBaseUser, "set_password", lambda _, user, raw: sweep.note("password", raw))
        after(SessionBase, "_get_new_session_key", lambda made, _: sweep.note("session key", made))
        after(DeviceGrant, "start", note_codes)
        pre_save.connect(note_saved)
        after(BaseHandler, "get_response", lambda response, _, request: sweep.answered(request, response))

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
        found = sweep.leaks(database=self.ran and has_database)
        yield
        if found and item.get_closest_marker("plants_secrets") is None:
            pytest.fail("\n".join(f"{leak.kind} in {leak.place}" for leak in found), pytrace=False)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput["sweep"] = dict(sweep.counted)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """With pytest-xdist: adds what a worker has counted."""
        sweep.counted.update(getattr(node, "workeroutput", {}).get("sweep", {}))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        counted = ", ".join(f"{number:,} {what}" for what, number in sorted(sweep.counted.items()))
        terminalreporter.write_line(f"secrets sweep: {counted}")
