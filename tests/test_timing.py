"""Response times don't reveal why a request was rejected: every rejection does the same work.

The tests count the work that takes noticeable time: Argon2 runs, with their costs, and SQL statements. A clock would
also measure what else the machine does.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import timedelta
from itertools import product
from typing import Any, NamedTuple

import pytest
from argon2 import PasswordHasher, extract_parameters, low_level
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from apikeys import keys
from oauth.models import Application
from oauth.server import DEVICE_CODE
from tests.helpers import BY_TEST, Api, make_key, make_user, send_form
from workspaces.models import User, Workspace

pytestmark = pytest.mark.django_db

Cost = tuple[int, int, int]  # of an Argon2 run: KiB, passes, lanes


class Work(NamedTuple):
    argon2_runs: list[Cost]
    statements: int


Measure = Callable[[Callable[[], object]], Work]


@pytest.fixture
def work_of(monkeypatch: pytest.MonkeyPatch) -> Measure:
    """`work_of(action)` calls `action` and returns its Argon2 runs and its number of SQL statements."""
    runs: list[Cost] = []
    encode, hash_, verify = low_level.hash_secret, PasswordHasher.hash, PasswordHasher.verify

    def watched_encode(secret: bytes, salt: bytes, **options: Any) -> bytes:
        runs.append((options["memory_cost"], options["time_cost"], options["parallelism"]))
        return encode(secret, salt, **options)

    def watched_hash(hasher: PasswordHasher, password: str, **options: Any) -> str:
        runs.append((hasher.memory_cost, hasher.time_cost, hasher.parallelism))
        return hash_(hasher, password, **options)

    def watched_verify(hasher: PasswordHasher, stored: str, password: str) -> bool:
        cost = extract_parameters(stored)
        runs.append((cost.memory_cost, cost.time_cost, cost.parallelism))
        return verify(hasher, stored, password)

    monkeypatch.setattr(low_level, "hash_secret", watched_encode)
    monkeypatch.setattr(PasswordHasher, "hash", watched_hash)
    monkeypatch.setattr(PasswordHasher, "verify", watched_verify)

    def work_of(action: Callable[[], object]) -> Work:
        runs.clear()
        with CaptureQueriesContext(connection) as statements:
            action()
        return Work(runs.copy(), len(statements))

    return work_of


@pytest.fixture(autouse=True)
def _production_hashes(settings: Any) -> None:
    settings.PASSWORD_HASHERS = ["workspaces.hashers.PasswordHasher"]
    settings.APIKEYS_ARGON2_MEMORY_COST, settings.APIKEYS_ARGON2_TIME_COST = 19_456, 2


def test_rejecting_known_unknown_and_inactive_accounts_takes_the_same_work(owner: User, work_of: Measure) -> None:
    inactive_user = make_user("gone")
    User.objects.filter(pk=inactive_user.pk).update(is_active=False)

    def attempt(email: str) -> Callable[[], object]:
        return lambda: Client().post("/sign-in/", {"username": email, "password": "a wrong guess"})

    known, unknown, inactive = (
        work_of(attempt(email)) for email in (owner.email, "nobody@example.com", inactive_user.email)
    )

    assert known.argon2_runs == [(19_456, 2, 1)]
    assert known == unknown == inactive


CLIENT_SECRET = "s3cret-of-the-server"


@pytest.fixture
def clients(db: None, settings: Any) -> list[str]:
    """The ids of a confidential client, a public one, one for terminals, and one that doesn't exist."""
    settings.PASSWORD_HASHERS = ["tests.helpers.QuickPasswordHasher"]
    kinds = [
        {"client_type": "confidential", "authorization_grant_type": "authorization-code"},
        {"client_type": "public", "authorization_grant_type": "authorization-code"},
        {"client_type": "confidential", "authorization_grant_type": DEVICE_CODE},
    ]
    applications = [Application.objects.create(client_secret=CLIENT_SECRET, **kind) for kind in kinds]
    return [*(application.client_id for application in applications), "unknown"]


def basic(client_id: str, secret: str) -> dict[str, str]:
    return {"HTTP_AUTHORIZATION": "Basic " + base64.b64encode(f"{client_id}:{secret}".encode()).decode()}


@pytest.mark.parametrize(
    ("credentials", "runs"),
    [
        (lambda client_id: ({"client_id": client_id}, {}), 0),
        (lambda client_id: ({"client_id": client_id, "client_secret": ""}, {}), 0),
        (lambda client_id: ({"client_id": client_id, "client_secret": "guess"}, {}), 1),
        (lambda client_id: ({"client_id": client_id}, basic(client_id, "guess")), 1),
        (lambda client_id: ({"client_id": client_id}, basic(client_id, "")), 0),
        (lambda client_id: ({"client_id": client_id, "client_secret": "guess"}, basic(client_id, "guess")), 1),
        (lambda client_id: ({"client_id": client_id, "client_secret": "guess"}, basic("another", "guess")), 0),
        (lambda client_id: ({"client_id": client_id}, {"HTTP_AUTHORIZATION": "Basic \u00e9"}), 0),
    ],
)
def test_rejecting_known_and_unknown_oauth_clients_takes_the_same_argon2_runs(
    clients: list[str], work_of: Measure, credentials: Callable[[str], Any], runs: int
) -> None:
    """One run for a secret, wherever it is, and none without a secret."""

    def send(client_id: str, endpoint: str) -> Callable[[], object]:
        form, headers = credentials(client_id)
        form = form | {"grant_type": "refresh_token", "refresh_token": "x", "token": "x"}
        return lambda: send_form(f"/app/auth/{endpoint}", form, **headers)

    for client_id, endpoint in product(clients, ["token", "revoke", "device"]):
        assert work_of(send(client_id, endpoint)).argon2_runs == [(8, 1, 1)] * runs, (client_id, endpoint)


def test_the_authorization_endpoint_runs_no_argon2(clients: list[str], work_of: Measure) -> None:
    for client_id in clients:
        query = {"client_id": client_id, "client_secret": "guess", "response_type": "code"}
        assert work_of(lambda query=query: Client().get("/app/auth/authorize", query)).argon2_runs == []  # type: ignore[misc]


def test_rejecting_unknown_wrong_revoked_and_ended_keys_takes_the_same_work(
    workspace: Workspace, work_of: Measure
) -> None:
    active_key, _ = make_key(workspace)
    revoked_key, _ = make_key(workspace)
    revoked_key.revoke(by=BY_TEST)
    rotated_key, _ = make_key(workspace)
    ended_key_id = rotated_key.current_secret.key_id
    rotated_key.rotate(overlap=timedelta(), by=BY_TEST)

    def request_with_random_secret(key_id: str) -> Callable[[], object]:
        body = f"one_{key_id}_{keys.generate().secret[17:-6]}"
        return lambda: Api(body + keys.checksum(body)).get("/me")

    key_ids = [active_key.current_secret.key_id, revoked_key.current_secret.key_id, ended_key_id]
    unknown, wrong, revoked, ended = (
        work_of(request_with_random_secret(key_id)) for key_id in (keys.generate().key_id, *key_ids)
    )

    assert unknown.argon2_runs == []
    assert unknown == wrong == revoked == ended


def test_rejecting_revoked_and_ended_secrets_takes_the_same_work(workspace: Workspace, work_of: Measure) -> None:
    revoked_key, revoked_secret = make_key(workspace)
    revoked_key.revoke(by=BY_TEST)
    rotated_key, ended_secret = make_key(workspace)
    rotated_key.rotate(overlap=timedelta(), by=BY_TEST)

    revoked, ended = (work_of(lambda s=s: Api(s).get("/me")) for s in (revoked_secret, ended_secret))  # type: ignore[misc]

    assert revoked.argon2_runs == []
    assert revoked == ended


def test_a_missing_or_cheaper_hash_is_detected(owner: User, work_of: Measure, settings: Any) -> None:
    complete = work_of(lambda: owner.check_password("a wrong guess"))

    assert complete.argon2_runs == [(19_456, 2, 1)]
    assert work_of(lambda: User.objects.filter(email="nobody@example.com").first()).argon2_runs == []
    settings.PASSWORD_HASHERS = ["tests.helpers.QuickPasswordHasher"]
    assert work_of(lambda: User().set_password("a wrong guess")).argon2_runs == [(8, 1, 1)]
