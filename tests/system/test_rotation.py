"""A key is rotated while servers use it: no request fails during the overlap, and the old secret ends at once."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from django.utils import timezone

from apikeys.models import ApiKey, KeyAlreadyRotated, KeyNotRotated, StoredSecret
from tests.apikeys.test_create_and_revoke import events_of
from tests.helpers import BY_TEST, commits, lift_quota, make_key, make_token, stretch_windows
from tests.processes import TIMEOUT, fetch, in_processes, in_threads, server, wait_until
from workspaces.access import CredentialRejected
from workspaces.models import Actor, AuditEvent, Membership, NotAllowed, Role, User, Via, Workspace

pytestmark = commits

HOUR = timedelta(hours=1)
CLIENTS = 2  # per secret and server


@pytest.fixture(scope="module")
def sites(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The URLs of two servers on one database, one of them with two workers. They count failures of many tests."""
    directory, limit = tmp_path_factory.mktemp("servers"), "100000"
    with (
        server(directory / "first", APIKEYS_FAILURES_PER_MINUTE=limit) as first,
        server(directory / "second", workers=2, APIKEYS_FAILURES_PER_MINUTE=limit) as second,
    ):
        yield [first, second]


@pytest.fixture
def busy(workspace: Workspace) -> Workspace:
    """The workspace, with limits that no test reaches."""
    lift_quota(workspace)
    return workspace


class Sent(NamedTuple):
    began: float
    ended: float
    status: int


class Traffic:
    """Clients that send requests with a secret to each server, one after another, until the block ends."""

    def __init__(self, sites: list[str], threads: ThreadPoolExecutor) -> None:
        self.sites, self.threads, self.stop = sites, threads, threading.Event()
        self.sent: dict[str, list[Sent]] = {}

    def start(self, secret: str) -> None:
        self.sent[secret] = []
        for site in self.sites * CLIENTS:
            self.threads.submit(self._send, site, secret)

    def _send(self, site: str, secret: str) -> None:
        while not self.stop.is_set():
            began = time.monotonic()
            status = fetch(f"{site}/api/v1/me", secret)[0]
            self.sent[secret].append(Sent(began, time.monotonic(), status))

    def wait(self, *secrets: str, requests: int = 40) -> None:
        """Wait until each of these secrets has been sent with `requests` more requests."""
        since = time.monotonic()
        for secret in secrets:
            wait_until(lambda secret=secret: len(self.statuses(secret, after=since)) >= requests)  # type: ignore[misc]

    def statuses(self, secret: str, after: float = 0, before: float = float("inf")) -> list[int]:
        """Return the statuses of requests that began after `after` and ended before `before`."""
        return [sent.status for sent in list(self.sent[secret]) if sent.began > after and sent.ended < before]


@contextmanager
def traffic(sites: list[str]) -> Iterator[Traffic]:
    with ThreadPoolExecutor(3 * CLIENTS * len(sites)) as threads:
        created = Traffic(sites, threads)
        try:
            yield created
        finally:
            created.stop.set()


class Manager:
    """Rotates a key over REST."""

    def __init__(self, site: str, user: User, api_key: ApiKey) -> None:
        self.url = f"{site}/api/v1/workspaces/{api_key.workspace_id}/api-keys/{api_key.pk}"
        self.token = make_token(user)

    def rotate(self, overlap_seconds: int, **headers: str) -> str:
        status, body = self.send("POST", "/rotate", {"overlapSeconds": overlap_seconds}, **headers)
        assert status == 200, body
        return str(body["secret"])

    def end(self) -> None:
        assert self.send("DELETE", "/previous-secret") == (204, None)

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        headers |= {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
                content = response.read()
                return response.status, json.loads(content) if content else None
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())


# ---- under load ----


def test_no_request_fails_during_a_rotation_and_none_succeeds_after_its_end(
    sites: list[str], busy: Workspace, owner: User
) -> None:
    api_key, old = make_key(busy)
    manager = Manager(sites[0], owner, api_key)

    with traffic(sites) as clients:
        clients.start(old)
        clients.wait(old)
        new = manager.rotate(3600)
        clients.start(new)
        clients.wait(old, new)
        ending = time.monotonic()
        manager.end()
        ended = time.monotonic()
        clients.wait(old, new)

    assert set(clients.statuses(old, before=ending)) == {200}
    assert set(clients.statuses(old, after=ended)) <= {401, 429}  # 429 after many failures from one client IP
    assert 401 in clients.statuses(old, after=ended)
    assert set(clients.statuses(new)) == {200}


def test_the_old_secret_ends_by_itself_with_the_overlap(sites: list[str], busy: Workspace, owner: User) -> None:
    api_key, old = make_key(busy)
    manager = Manager(sites[0], owner, api_key)

    with traffic(sites) as clients:
        clients.start(old)
        clients.wait(old)
        rotating, new = time.monotonic(), manager.rotate(2)
        rotated = time.monotonic()
        clients.start(new)
        wait_until(lambda: 401 in clients.statuses(old))
        clients.wait(old, new)

    assert set(clients.statuses(old, before=rotating + 2)) == {200}
    assert set(clients.statuses(old, after=rotated + 2)) <= {401, 429}
    assert set(clients.statuses(new)) == {200}


def test_a_rotation_ends_an_earlier_previous_secret_at_once(sites: list[str], busy: Workspace, owner: User) -> None:
    api_key, first = make_key(busy)
    manager = Manager(sites[0], owner, api_key)

    with traffic(sites) as clients:
        second = manager.rotate(3600)
        clients.start(first)
        clients.start(second)
        clients.wait(first, second)
        rotating = time.monotonic()
        third = manager.rotate(3600)
        rotated = time.monotonic()
        clients.start(third)
        clients.wait(first, second, third)

    assert set(clients.statuses(first, before=rotating)) == {200}
    assert set(clients.statuses(first, after=rotated)) <= {401, 429}
    assert set(clients.statuses(second) + clients.statuses(third)) == {200}


def test_a_revocation_ends_both_secrets_at_once(sites: list[str], busy: Workspace, owner: User) -> None:
    api_key, old = make_key(busy)
    manager = Manager(sites[0], owner, api_key)

    with traffic(sites) as clients:
        new = manager.rotate(3600)
        clients.start(old)
        clients.start(new)
        clients.wait(old, new)
        revoking = time.monotonic()
        api_key.revoke(by=BY_TEST)
        revoked = time.monotonic()
        clients.wait(old, new)

    for secret in (old, new):
        assert set(clients.statuses(secret, before=revoking)) == {200}
        assert set(clients.statuses(secret, after=revoked)) <= {401, 429}


def test_a_server_that_starts_after_the_end_rejects_the_old_secret(
    busy: Workspace, tmp_path: Path, sites: list[str]
) -> None:
    api_key, old = make_key(busy)
    assert [fetch(f"{site}/api/v1/me", old)[0] for site in sites] == [200, 200]
    new = api_key.rotate(overlap=timedelta(), by=BY_TEST)

    with server(tmp_path / "log") as started:
        for site in (started, *sites):
            assert [fetch(f"{site}/api/v1/me", secret)[0] for secret in (old, new)] == [401, 200]


def test_both_secrets_count_against_one_quota(sites: list[str], workspace: Workspace) -> None:
    stretch_windows()
    api_key, old = make_key(workspace)
    new = api_key.rotate(overlap=HOUR, by=BY_TEST)
    requests = [(site, secret) for site in sites for secret in (old, new)] * 20

    with ThreadPoolExecutor(8) as clients:
        statuses = Counter(clients.map(lambda request: fetch(f"{request[0]}/api/v1/me", request[1])[0], requests))

    assert statuses == {200: 40, 429: 40}


# ---- at the same moment ----


def working(*secrets: str) -> list[str]:
    """Return those of the secrets that authenticate."""

    def works(secret: str) -> bool:
        try:
            StoredSecret.objects.authenticate(secret)
        except CredentialRejected:
            return False
        return True

    return [secret for secret in secrets if works(secret)]


def test_fifty_rotations_at_once_leave_two_secrets_that_work(workspace: Workspace) -> None:
    api_key, first = make_key(workspace)
    before = (api_key.pk, workspace.api_keys.active().count())

    outputs = in_processes(
        5,
        f"""
        from datetime import timedelta
        from apikeys.models import ApiKey
        from tests.helpers import BY_TEST
        from tests.processes import in_threads
        def rotate():
            return ApiKey.objects.get(pk={api_key.pk!r}).rotate(overlap=timedelta(hours=1), by=BY_TEST)
        for outcome in in_threads(*[rotate] * 10):
            print(outcome)
        """,
    )

    secrets = "".join(outputs).split()
    api_key = workspace.api_keys.get()
    assert len(set(secrets)) == 50
    assert working(*secrets) == [
        s for s in secrets if s[4:16] in {stored.key_id for stored in api_key.secrets_not_ended}
    ]
    assert len(working(*secrets)) == 2
    assert working(first) == []
    assert (api_key.pk, workspace.api_keys.active().count()) == before
    secrets_of_key = api_key.secrets
    assert (secrets_of_key.count(), secrets_of_key.current().count(), secrets_of_key.not_ended().count()) == (51, 1, 2)
    rotations = AuditEvent.objects.filter(action="api_key.rotated", subject=api_key.pk)
    assert rotations.count() == 50
    replaced = [(event.details["previous"], event.details["secret"]) for event in rotations.order_by("pk")]
    assert len({previous for previous, _ in replaced}) == len({created for _, created in replaced}) == 50
    assert AuditEvent.objects.filter(action="api_key.previous_secret_ended", subject=api_key.pk).count() == 49


def test_of_eight_repetitions_at_once_one_rotates(workspace: Workspace) -> None:
    """They have the same idempotency key."""
    api_key, old = make_key(workspace)

    def rotate() -> str:
        found = ApiKey.objects.get(pk=api_key.pk)
        return found.rotate(overlap=HOUR, by=BY_TEST, idempotency_key="a" * 64, request_digest="b" * 64)

    outcomes = in_threads(*[rotate] * 8)

    secrets = [outcome for outcome in outcomes if isinstance(outcome, str)]
    assert len(secrets) == 1
    assert [type(outcome) for outcome in outcomes].count(KeyAlreadyRotated) == 7
    assert working(old, *secrets) == [old, *secrets]
    assert api_key.secrets.count() == 2


def test_of_eight_rotations_of_the_same_secret_at_once_one_succeeds(workspace: Workspace) -> None:
    """Each expects to replace the secret that its page showed."""
    api_key, old = make_key(workspace)

    def rotate() -> str:
        return ApiKey.objects.get(pk=api_key.pk).rotate(overlap=HOUR, by=BY_TEST, replacing=old[4:16])

    outcomes = in_threads(*[rotate] * 8)

    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["KeyNotRotated"] * 7 + ["str"]
    assert working(old) == [old]


class Race(NamedTuple):
    api_key: ApiKey
    admin: User
    old: str
    first: str  # the secret that replaced it, before the race


@pytest.fixture
def race(workspace: Workspace, admin: User) -> Race:
    api_key, old = make_key(workspace)
    return Race(api_key, admin, old, api_key.rotate(overlap=HOUR, by=BY_TEST))


def fresh(race: Race) -> ApiKey:
    return ApiKey.objects.get(pk=race.api_key.pk)


def rotate_by_admin(race: Race) -> Callable[[], Any]:
    by = Actor(via=Via.API, user=race.admin)
    return lambda: fresh(race).rotate(overlap=HOUR, by=by)


RACES: dict[str, Callable[[Race], Any]] = {
    "revoke": lambda race: fresh(race).revoke(by=BY_TEST),
    "end the previous secret": lambda race: fresh(race).end_previous_secret(by=BY_TEST),
    "rename": lambda race: fresh(race).rename("Renamed", by=BY_TEST),
    "revoke all": lambda race: ApiKey.objects.revoke_all(race.api_key.workspace, by=BY_TEST, reason="Leaked"),
    "remove the member": lambda race: race.admin.memberships.get().leave(by=BY_TEST),
    "demote the member": lambda race: race.admin.memberships.get().change_role(Role.MEMBER, by=BY_TEST),
    "suspend": lambda race: Workspace.objects.get(pk=race.api_key.workspace_id).suspend("Unpaid", by=BY_TEST),
    "expire": lambda race: ApiKey.objects.filter(pk=race.api_key.pk).update(expires_at=timezone.now()),
    "use the previous secret": lambda race: record_use(race.old),
    "use the current secret": lambda race: record_use(race.first),
}
# Why a rotation fails that comes after the other change.
REFUSED: dict[str, type[Exception]] = {
    "revoke": KeyNotRotated,
    "revoke all": KeyNotRotated,
    "remove the member": Membership.DoesNotExist,  # a 404
    "demote the member": NotAllowed,
    "suspend": KeyNotRotated,
    "expire": KeyNotRotated,
}


def record_use(secret: str) -> None:
    for _ in range(5):
        StoredSecret.objects.filter(key_id=secret[4:16]).update(shared_proof=None)
        StoredSecret.objects.get(key_id=secret[4:16]).record_use("192.0.2.7")


@pytest.mark.parametrize("name", RACES)
def test_a_rotation_and_another_change_at_once_happen_one_after_the_other(name: str, race: Race) -> None:
    rotation, change = in_threads(rotate_by_admin(race), lambda: RACES[name](race))

    api_key = fresh(race)
    assert not isinstance(change, Exception), change
    if isinstance(rotation, str):
        new, replaced = rotation, race.first
    else:
        assert isinstance(rotation, REFUSED[name]), rotation
        new, replaced = race.first, race.old
    current, previous = new[4:16], replaced[4:16]
    assert api_key.current_secret.key_id == current
    ended = name == "end the previous secret" and working(replaced) == []
    works = {secret for secret, ends in ((new, False), (replaced, ended)) if not ends}
    if name in ("revoke", "revoke all", "suspend", "expire"):
        works = set()
    assert set(working(race.old, race.first, new)) == works
    assert api_key.secrets.exclude(key_id__in=[current, previous]).not_ended().count() == 0
    actions = [action for action, _ in events_of(api_key)]
    assert actions.count("api_key.rotated") == api_key.secrets.count() - 1


def test_a_secret_is_rehashed_while_its_key_is_rotated(race: Race, settings: Any) -> None:
    settings.APIKEYS_ARGON2_TIME_COST = 2

    *authenticated, rotation = in_threads(
        *[lambda: StoredSecret.objects.authenticate(race.first).pk] * 4, rotate_by_admin(race)
    )

    assert authenticated == [race.first[4:16]] * 4
    assert isinstance(rotation, str), rotation
    assert working(race.first, rotation) == [race.first, rotation]


def test_managers_who_rotate_revoke_and_end_at_once_get_no_server_error(
    sites: list[str], busy: Workspace, owner: User, admin: User
) -> None:
    api_key, _ = make_key(busy)
    managers = [Manager(site, user, api_key) for site in sites for user in (owner, admin)]
    requests: list[tuple[str, str, Any]] = [
        ("POST", "/rotate", {"overlapSeconds": 3600}),
        ("POST", "/rotate", {"overlapSeconds": 0}),
        ("DELETE", "/previous-secret", None),
        ("PATCH", "", {"description": "Renamed"}),
    ]

    with ThreadPoolExecutor(8) as threads:
        futures = [threads.submit(manager.send, *request) for manager in managers for request in requests]
        statuses = {future.result()[0] for future in futures}

    assert statuses == {200, 204}
    assert api_key.secrets.count() == 9
    assert api_key.secrets.current().count() == 1
    assert api_key.secrets.not_ended().exclude(replaced_at=None).count() <= 1


def test_a_repeated_request_at_the_same_moment_rotates_once(sites: list[str], busy: Workspace, owner: User) -> None:
    api_key, old = make_key(busy)
    managers = [Manager(site, owner, api_key) for site in sites] * 3

    def rotate(manager: Manager) -> tuple[int, Any]:
        return manager.send("POST", "/rotate", {"overlapSeconds": 60}, Idempotency_Key="4f1c")

    with ThreadPoolExecutor(6) as threads:
        responses = list(threads.map(rotate, managers))

    assert [status for status, _ in responses] == [200] * 6
    secrets = [body["secret"] for _, body in responses if "secret" in body]
    assert len(secrets) == 1
    assert {body["maskedKey"][4:16] for _, body in responses} == {secrets[0][4:16]}
    assert working(old, *secrets) == [old, *secrets]
