"""The limits are exact over HTTP, with many processes and connections at once."""

from __future__ import annotations

import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain

import pytest
from django.conf import settings
from django.db import connection
from django.test import Client

from apikeys.models import ApiKey
from tests.helpers import BY_TEST, commits, lift_quota, make_key, make_token, make_user, make_workspace, stretch_windows
from tests.processes import TIMEOUT, fetch, server, wait_until
from workspaces.models import AuditEvent, Tier, User, Workspace
from workspaces.quota import SECOND

pytestmark = commits

PROCESSES = CONNECTIONS = 8
ONLY_POSTGRESQL = "SQLite is for one machine: tests/apikeys/test_quota_statement.py tries it with two workers"


@pytest.fixture(scope="module")
def address(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    workers = PROCESSES if connection.vendor == "postgresql" else 2
    with server(tmp_path_factory.mktemp("server") / "log", workers=workers) as address:
        yield address


@contextmanager
def recorded_admissions() -> Iterator[Callable[[str], list[int]]]:
    """Every admission of a subject in the block, in microseconds: the database itself writes them down."""

    def admissions(subject: str) -> list[int]:
        with connection.cursor() as cursor:
            cursor.execute("SELECT time FROM recorded WHERE subject = %s ORDER BY time", [subject])
            return [time for (time,) in cursor.fetchall()]

    with connection.cursor() as cursor:
        cursor.execute(
            """
            CREATE TABLE recorded (subject text, time bigint);
            CREATE FUNCTION record() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN INSERT INTO recorded VALUES (NEW.subject, NEW.admissions[1]); RETURN NEW; END $$;
            CREATE TRIGGER record AFTER INSERT OR UPDATE ON workspaces_quota FOR EACH ROW EXECUTE FUNCTION record();
            """
        )
        try:
            yield admissions
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


def test_no_window_exceeds_its_limit_and_a_single_client_that_waits_is_admitted(address: str) -> None:
    if connection.vendor != "postgresql":
        pytest.skip(ONLY_POSTGRESQL)
    stretch_windows()
    quick = Tier.objects.create(name="quick", requests=12, seconds=4, burst_requests=5, burst_seconds=1)
    owner = make_user("owner")
    sliding, standard = make_workspace(owner, "sliding"), make_workspace(owner, "standard")
    Workspace.objects.filter(pk=sliding.pk).update(tier=quick)
    (_, secret), (_, other) = make_key(sliding), make_key(standard)

    def ask(secret: str) -> tuple[int, int]:
        status, headers, _ = fetch(f"{address}/api/v1/me", secret)
        return status, int(headers.get("retry-after", 0))

    over = threading.Event()

    def ask_until_over(_: int) -> list[int]:
        statuses = []
        while not over.is_set():
            statuses.append(ask(secret)[0])
        return statuses

    def has_slid_and_been_full() -> bool:
        times = admissions(sliding.pk)
        return len(times) >= 20 and fullest(times, 4) >= 12 and fullest(times, 1) >= 5

    def refused_alone() -> int:
        """The delay in the response to a single client, after many have used up the quota."""
        list(clients.map(ask, [secret] * PROCESSES * CONNECTIONS))
        return ask(secret)[1]

    with recorded_admissions() as admissions, ThreadPoolExecutor(PROCESSES * CONNECTIONS) as clients:
        burst = Counter(status for status, _ in clients.map(ask, [other] * 160))
        flood = [clients.submit(ask_until_over, number) for number in range(PROCESSES * CONNECTIONS)]
        try:
            wait_until(has_slid_and_been_full)
        finally:
            over.set()
        statuses = set(chain.from_iterable(client.result() for client in flood))
        for _ in range(2):
            time.sleep(wait_until(refused_alone))
            assert ask(secret)[0] == 200
        standard_times, sliding_times = admissions(standard.pk), admissions(sliding.pk)

    assert burst == {200: 40, 429: 120}
    assert len(standard_times) == 40
    assert statuses == {200, 429}
    assert fullest(sliding_times, 4) == 12
    assert fullest(sliding_times, 1) == 5


def test_requests_after_a_revocation_are_rejected_in_every_process(address: str) -> None:
    workspace = make_workspace(make_user("owner"))
    lift_quota(workspace)
    api_key, secret = make_key(workspace)
    over = threading.Event()
    answers: list[tuple[float, float, int]] = []  # began, ended, status

    def ask_until_over() -> None:
        while not over.is_set():
            began = time.monotonic()
            status = fetch(f"{address}/api/v1/me", secret)[0]
            answers.append((began, time.monotonic(), status))

    def some_answers_after(moment: float) -> bool:
        return sum(began > moment for began, _, _ in list(answers)) >= 20 * CONNECTIONS

    with ThreadPoolExecutor(CONNECTIONS) as clients:
        asking = [clients.submit(ask_until_over) for _ in range(CONNECTIONS)]
        try:
            wait_until(lambda: some_answers_after(0))
            begun = time.monotonic()
            api_key.revoke(by=BY_TEST)
            revoked = time.monotonic()
            wait_until(lambda: some_answers_after(revoked))
        finally:
            over.set()
        for client in asking:
            client.result()

    before = [status for _, ended, status in answers if ended < begun]
    after = [status for began, _, status in sorted(answers) if began > revoked]
    assert set(before) == {200}
    # A client may be told 429 instead of 401, once an address has failed too often.
    assert set(after) <= {401, 429}
    assert after[0] == 401


def test_twenty_of_fifty_creations_by_page_and_rest_succeed(address: str) -> None:
    owner, admin = make_user("owner"), make_user("admin")
    workspace = make_workspace(owner, admin=admin)
    cookies, token = signed_in(owner), make_token(admin)

    def at_the_page() -> bool:
        form = {
            "description": "Page",
            "expiry": "never",
            "idempotency_key": uuid.uuid4().hex,
            "csrfmiddlewaretoken": CSRF,
        }
        body = urllib.parse.urlencode(form).encode()
        status, answer = post(f"{address}/w/{workspace.pk}/settings/developer/api-keys/add/", body, Cookie=cookies)
        created = b"Save your API key" in answer
        assert status == 200
        assert created or b"has 20 active API keys" in answer
        return created

    def over_rest() -> bool:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        keys = f"{address}/api/v1/workspaces/{workspace.pk}/api-keys"
        status, answer = post(keys, b'{"description":"REST"}', **headers)
        assert status in (201, 409), answer
        return status == 201

    with ThreadPoolExecutor(50) as clients:
        outcomes = [clients.submit(act) for _ in range(25) for act in (at_the_page, over_rest)]
        created = [outcome.result() for outcome in outcomes]

    assert created.count(True) == 20
    assert workspace.api_keys.active().count() == ApiKey.objects.count() == 20
    assert AuditEvent.objects.filter(action="api_key.created").count() == 20


CSRF = "c" * 32


def signed_in(user: User) -> str:
    client = Client()
    client.force_login(user)
    return f"{settings.SESSION_COOKIE_NAME}={client.cookies[settings.SESSION_COOKIE_NAME].value}; csrftoken={CSRF}"


def post(url: str, body: bytes, **headers: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=TIMEOUT) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
