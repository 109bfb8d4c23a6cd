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
from tests.helpers import (
    BY_TEST,
    commits,
    fill_quota,
    lift_quota,
    make_key,
    make_token,
    make_user,
    make_workspace,
    stretch_windows,
)
from tests.processes import TIMEOUT, fetch, server, wait_until
from workspaces import quota
from workspaces.models import AuditEvent, Tier, User, Workspace
from workspaces.quota import SECOND

pytestmark = commits

PROCESSES = CONNECTIONS = 8
ONLY_POSTGRESQL = "SQLite serves a single machine; tests/system/test_processes.py tests it with two workers"


@pytest.fixture(scope="module")
def site(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server with many workers."""
    workers = PROCESSES if connection.vendor == "postgresql" else 2
    with server(tmp_path_factory.mktemp("server") / "log", workers=workers) as url:
        yield url


@contextmanager
def recorded_admissions() -> Iterator[Callable[[str], list[int]]]:
    """Record all admissions during the block with a database trigger.

    Yields a function that returns the times of a subject's admissions, in microseconds.
    """

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


def most_within(times: list[int], seconds: int) -> int:
    """Return the largest number of `times` within any span of `seconds`."""
    first = most = 0
    for last, moment in enumerate(times):
        while times[first] <= moment - seconds * SECOND:
            first += 1
        most = max(most, last - first + 1)
    return most


def test_no_window_exceeds_its_limit_and_a_single_client_that_waits_is_admitted(site: str) -> None:
    if connection.vendor != "postgresql":
        pytest.skip(ONLY_POSTGRESQL)
    stretch_windows()
    quick = Tier.objects.create(name="quick", requests=12, seconds=4, burst_requests=5, burst_seconds=1)
    owner = make_user("owner")
    sliding, standard = make_workspace(owner, "sliding"), make_workspace(owner, "standard")
    Workspace.objects.filter(pk=sliding.pk).update(tier=quick)
    (_, secret), (_, standard_secret) = make_key(sliding), make_key(standard)

    def send(secret: str) -> tuple[int, int]:
        """Send a request and return the status and the Retry-After."""
        status, headers, _ = fetch(f"{site}/api/v1/me", secret)
        return status, int(headers.get("retry-after", 0))

    stop = threading.Event()

    def send_until_stopped(_: int) -> list[int]:
        statuses = []
        while not stop.is_set():
            statuses.append(send(secret)[0])
        return statuses

    def both_windows_were_full() -> bool:
        times = admissions(sliding.pk)
        return len(times) >= 20 and most_within(times, 4) >= 12 and most_within(times, 1) >= 5

    def retry_after() -> int:
        """Use up the quota with many clients, then return the Retry-After that a single client gets."""
        list(clients.map(send, [secret] * PROCESSES * CONNECTIONS))
        return send(secret)[1]

    with recorded_admissions() as admissions, ThreadPoolExecutor(PROCESSES * CONNECTIONS) as clients:
        burst = Counter(status for status, _ in clients.map(send, [standard_secret] * 160))
        flood = [clients.submit(send_until_stopped, number) for number in range(PROCESSES * CONNECTIONS)]
        try:
            wait_until(both_windows_were_full)
        finally:
            stop.set()
        statuses = set(chain.from_iterable(future.result() for future in flood))
        for _ in range(2):
            time.sleep(wait_until(retry_after))
            assert send(secret)[0] == 200
        standard_times, sliding_times = admissions(standard.pk), admissions(sliding.pk)

    assert burst == {200: 40, 429: 120}
    assert len(standard_times) == 40
    assert statuses == {200, 429}
    assert most_within(sliding_times, 4) == 12
    assert most_within(sliding_times, 1) == 5


def test_exactly_a_limit_in_slots_is_admitted(site: str) -> None:
    large = Tier.objects.create(name="large", requests=20_000, seconds=900, burst_requests=5000, burst_seconds=900)
    workspace = make_workspace(make_user("owner"))
    Workspace.objects.filter(pk=workspace.pk).update(tier=large)
    _, secret = make_key(workspace)
    fill_quota(workspace.pk, large, 4950)

    with ThreadPoolExecutor(PROCESSES * CONNECTIONS) as clients:
        statuses = Counter(clients.map(lambda _: fetch(f"{site}/api/v1/me", secret)[0], range(160)))

    assert statuses == {200: 50, 429: 110}
    assert [window.remaining for window in quota.status(workspace.pk, large).windows] == [15_000, 0]


def test_no_span_exceeds_a_limit_in_slots(site: str) -> None:
    if connection.vendor != "postgresql":
        pytest.skip(ONLY_POSTGRESQL)
    quick = Tier.objects.create(name="quick", requests=1001, seconds=10, burst_requests=1001, burst_seconds=10)
    workspace = make_workspace(make_user("owner"))
    Workspace.objects.filter(pk=workspace.pk).update(tier=quick)
    _, secret = make_key(workspace)
    stop = threading.Event()

    def send_until_stopped(_: int) -> list[int]:
        statuses = []
        while not stop.is_set():
            statuses.append(fetch(f"{site}/api/v1/me", secret)[0])
        return statuses

    fill_quota(workspace.pk, quick, 990)
    filled_at = quota.read(workspace.pk)[0].admissions[0]
    with recorded_admissions() as admissions, ThreadPoolExecutor(CONNECTIONS) as clients:
        flood = [clients.submit(send_until_stopped, number) for number in range(CONNECTIONS)]
        try:
            # 11 requests are admitted at once, and more only after the 990 have left the window.
            wait_until(lambda: len(admissions(workspace.pk)) >= 60)
        finally:
            stop.set()
        statuses = [future.result() for future in flood]
        times = [filled_at] * 989 + admissions(workspace.pk)  # the first of the 990 was earlier

    assert set(chain.from_iterable(statuses)) == {200, 429}
    assert most_within(times, 10) in (1000, 1001)


def test_requests_after_a_revocation_are_rejected_in_every_process(site: str) -> None:
    workspace = make_workspace(make_user("owner"))
    lift_quota(workspace)
    api_key, secret = make_key(workspace)
    stop = threading.Event()
    responses: list[tuple[float, float, int]] = []  # began, ended, status

    def send_until_stopped() -> None:
        while not stop.is_set():
            began = time.monotonic()
            status = fetch(f"{site}/api/v1/me", secret)[0]
            responses.append((began, time.monotonic(), status))

    def many_responses_after(moment: float) -> bool:
        return sum(began > moment for began, _, _ in list(responses)) >= 20 * CONNECTIONS

    with ThreadPoolExecutor(CONNECTIONS) as clients:
        futures = [clients.submit(send_until_stopped) for _ in range(CONNECTIONS)]
        try:
            wait_until(lambda: many_responses_after(0))
            revoking = time.monotonic()
            api_key.revoke(by=BY_TEST)
            revoked = time.monotonic()
            wait_until(lambda: many_responses_after(revoked))
        finally:
            stop.set()
        for future in futures:
            future.result()

    before = [status for _, ended, status in responses if ended < revoking]
    after = [status for began, _, status in sorted(responses) if began > revoked]
    assert set(before) == {200}
    # After too many failures of a client IP, its requests get 429 instead of 401.
    assert set(after) <= {401, 429}
    assert after[0] == 401


def test_twenty_of_fifty_creations_by_page_and_rest_succeed(site: str) -> None:
    owner, admin = make_user("owner"), make_user("admin")
    workspace = make_workspace(owner, admin=admin)
    cookies, token = sign_in(owner), make_token(admin)

    def create_on_page() -> bool:
        form = {
            "description": "Page",
            "expiry": "never",
            "idempotency_key": uuid.uuid4().hex,
            "csrfmiddlewaretoken": CSRF,
        }
        body = urllib.parse.urlencode(form).encode()
        status, response = post(f"{site}/w/{workspace.pk}/settings/developer/api-keys/add/", body, Cookie=cookies)
        created = b"Save your API key" in response
        assert status == 200
        assert created or b"has 20 active API keys" in response
        return created

    def create_over_rest() -> bool:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        keys = f"{site}/api/v1/workspaces/{workspace.pk}/api-keys"
        status, response = post(keys, b'{"description":"REST"}', **headers)
        assert status in (201, 409), response
        return status == 201

    with ThreadPoolExecutor(50) as clients:
        futures = [clients.submit(create) for _ in range(25) for create in (create_on_page, create_over_rest)]
        created = [future.result() for future in futures]

    assert created.count(True) == 20
    assert workspace.api_keys.active().count() == ApiKey.objects.count() == 20
    assert AuditEvent.objects.filter(action="api_key.created").count() == 20


CSRF = "c" * 32


def sign_in(user: User) -> str:
    """Return the Cookie header of a signed-in browser."""
    client = Client()
    client.force_login(user)
    return f"{settings.SESSION_COOKIE_NAME}={client.cookies[settings.SESSION_COOKIE_NAME].value}; csrftoken={CSRF}"


def post(url: str, body: bytes, **headers: str) -> tuple[int, bytes]:
    """Send a request until the response is no 503: on a busy machine it may wait too long for the workspace's lock."""

    def attempt() -> tuple[int, bytes] | None:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=TIMEOUT) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return None if error.code == 503 else (error.code, error.read())

    response = wait_until(attempt)
    assert response is not None
    return response
