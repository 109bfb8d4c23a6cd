"""What the limits promise, with many processes and connections at once, seen over HTTP."""

from __future__ import annotations

import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain

import pytest
from django.conf import settings
from django.db import connection
from django.test import Client

from apikeys.events import AuditEvent
from apikeys.models import ApiKey
from tests.helpers import BY_TEST, committed, fetch, lift_quota, make_key, make_token, make_user, make_workspace, server
from workspaces.models import Tier, User, Workspace
from workspaces.quota import SECOND

pytestmark = committed

PROCESSES = CONNECTIONS = 8
ONLY_POSTGRESQL = "SQLite is for one machine: tests/apikeys/test_quota_statement.py tries it with two workers"


@pytest.fixture(scope="module")
def address(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    workers = PROCESSES if connection.vendor == "postgresql" else 2
    with server(tmp_path_factory.mktemp("server") / "log", workers=workers) as address:
        yield address


@contextmanager
def recorded_admissions() -> Iterator[dict[str, list[int]]]:
    """Every admission in the block, by subject, in microseconds: the database itself writes them down."""
    admissions: dict[str, list[int]] = {}
    with connection.cursor() as cursor:
        cursor.execute(
            """
            CREATE TABLE recorded (subject text, time bigint);
            CREATE FUNCTION record() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN INSERT INTO recorded VALUES (NEW.subject, NEW.admissions[1]); RETURN NEW; END $$;
            CREATE TRIGGER record AFTER INSERT OR UPDATE ON apikeys_quota FOR EACH ROW EXECUTE FUNCTION record();
            """
        )
        try:
            yield admissions
            cursor.execute("SELECT subject, time FROM recorded ORDER BY time")
            for subject, moment in cursor.fetchall():
                admissions.setdefault(subject, []).append(moment)
        finally:
            cursor.execute("DROP FUNCTION record CASCADE; DROP TABLE recorded")


def fullest(times: list[int], seconds: int) -> int:
    """The most of them that lie in any span of so many seconds."""
    first = most = 0
    for last, moment in enumerate(times):
        while times[first] <= moment - seconds * SECOND:
            first += 1
        most = max(most, last - first + 1)
    return most


def test_no_window_ever_holds_more_than_its_limit_and_who_waits_alone_gets_in(address: str) -> None:
    if connection.vendor != "postgresql":
        pytest.skip(ONLY_POSTGRESQL)
    quick = Tier.objects.create(name="quick", requests=12, seconds=4, burst_requests=5, burst_seconds=1)
    owner = make_user("owner")
    sliding, standard = make_workspace(owner, "sliding"), make_workspace(owner, "standard")
    Workspace.objects.filter(pk=sliding.pk).update(tier=quick)
    (_, secret), (_, other) = make_key(sliding), make_key(standard)

    def ask(secret: str) -> tuple[int, int]:
        status, headers, _ = fetch(f"{address}/api/v1/me", secret)
        return status, int(headers.get("retry-after", 0))

    def ask_until(end: float) -> list[int]:
        statuses = []
        while time.monotonic() < end:
            statuses.append(ask(secret)[0])
        return statuses

    with recorded_admissions() as admissions, ThreadPoolExecutor(PROCESSES * CONNECTIONS) as clients:
        burst = Counter(status for status, _ in clients.map(ask, [other] * 160))
        end = time.monotonic() + 9
        flood = Counter(chain.from_iterable(clients.map(ask_until, [end] * PROCESSES * CONNECTIONS)))
        for _ in range(2):
            while (refused := ask(secret))[0] == 200:
                pass
            time.sleep(refused[1])
            assert ask(secret)[0] == 200

    assert burst == {200: 40, 429: 120}
    assert len(admissions[standard.pk]) == 40
    assert set(flood) == {200, 429}
    assert flood[200] >= 20  # as the window slides, there is room again
    assert fullest(admissions[sliding.pk], 4) == 12
    assert fullest(admissions[sliding.pk], 1) == 5


def test_who_begins_after_a_revocation_is_refused_in_every_process(address: str) -> None:
    workspace = make_workspace(make_user("owner"))
    lift_quota(workspace)
    api_key, secret = make_key(workspace)
    end = time.monotonic() + 2.5

    def ask_until_the_end(_: int) -> list[tuple[float, int]]:
        answers = []
        while time.monotonic() < end:
            answers.append((time.monotonic(), fetch(f"{address}/api/v1/me", secret)[0]))
        return answers

    with ThreadPoolExecutor(CONNECTIONS) as clients:
        asked = clients.map(ask_until_the_end, range(CONNECTIONS))
        time.sleep(1.2)
        begun = time.monotonic()
        api_key.revoke(by=BY_TEST)
        revoked = time.monotonic()
        answers = sorted(answer for client in asked for answer in client)

    before = [status for began, status in answers if began < begun - 0.5]
    after = [status for began, status in answers if began > revoked]
    assert set(before) == {200}
    # A client may be told 429 instead of 401, once an address has failed too often.
    assert after
    assert set(after) <= {401, 429}
    assert after[0] == 401


def test_of_fifty_who_create_at_the_page_and_over_rest_twenty_do(address: str) -> None:
    owner, admin = make_user("owner"), make_user("admin")
    workspace = make_workspace(owner, admin=admin)
    cookies, token = signed_in(owner), make_token(admin)

    def at_the_page() -> bool:
        form = {"description": "Page", "expiry": "never", "once": uuid.uuid4().hex, "csrfmiddlewaretoken": CSRF}
        body = urllib.parse.urlencode(form).encode()
        status, answer = post(f"{address}/w/{workspace.pk}/settings/developer/api-keys/add/", body, Cookie=cookies)
        made = b"Store your new key now" in answer
        assert status == 200
        assert made or b"has 20 active API keys" in answer
        return made

    def over_rest() -> bool:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        keys = f"{address}/api/v1/workspaces/{workspace.pk}/api-keys"
        status, answer = post(keys, b'{"description":"REST"}', **headers)
        assert status in (201, 409), answer
        return status == 201

    with ThreadPoolExecutor(50) as clients:
        outcomes = [clients.submit(act) for _ in range(25) for act in (at_the_page, over_rest)]
        made = [outcome.result() for outcome in outcomes]

    assert made.count(True) == 20
    assert workspace.api_keys.active().count() == ApiKey.objects.count() == 20
    assert AuditEvent.objects.filter(action="api_key.created").count() == 20


CSRF = "c" * 32


def signed_in(user: User) -> str:
    client = Client()
    client.force_login(user)
    return f"{settings.SESSION_COOKIE_NAME}={client.cookies[settings.SESSION_COOKIE_NAME].value}; csrftoken={CSRF}"


def post(url: str, body: bytes, **headers: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=30) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
