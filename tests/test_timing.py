"""Who is told no can't tell from the time it took why. The margin is wide: what it would catch is a hash left out."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import pytest
from django.test import Client

from apikeys import keys
from tests.helpers import BY_TEST, Api, make_key, make_user
from workspaces.models import User, Workspace

pytestmark = pytest.mark.django_db

MARGIN = 2.0


def medians(acts: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Seconds, of `rounds` runs of each act, all of them in a random order."""
    taken: dict[str, list[float]] = {name: [] for name in acts}
    for name in random.sample([*acts] * rounds, len(acts) * rounds):
        started = time.perf_counter()
        acts[name]()
        taken[name].append(time.perf_counter() - started)
    return {name: median(times) for name, times in taken.items()}


def alike(acts: dict[str, Callable[[], object]], rounds: int) -> bool:
    """Of three looks one is enough: what else the machine does makes times differ, and a hash left out never hides."""
    looks = (medians(acts, rounds).values() for _ in range(3))
    return any(max(found) < MARGIN * min(found) for found in looks)


@pytest.fixture(autouse=True)
def _as_costly_as_in_production(settings: Any) -> None:
    settings.PASSWORD_HASHERS = ["workspaces.hashers.PasswordHasher"]
    settings.APIKEYS_ARGON2_MEMORY_COST, settings.APIKEYS_ARGON2_TIME_COST = 19_456, 2
    settings.APIKEYS_FAILURES_PER_MINUTE = 10_000
    settings.RATELIMIT_ENABLE = False


def test_known_unknown_and_switched_off_accounts_take_as_long_to_refuse(owner: User) -> None:
    gone = make_user("gone")
    User.objects.filter(pk=gone.pk).update(is_active=False)

    def attempt(email: str) -> Callable[[], object]:
        return lambda: Client().post("/sign-in/", {"username": email, "password": "a wrong guess"})

    emails = {"known": owner.email, "unknown": "nobody@example.com", "switched off": gone.email}
    assert alike({name: attempt(email) for name, email in emails.items()}, rounds=15)


def test_unknown_wrong_and_revoked_keys_take_as_long_to_refuse(workspace: Workspace) -> None:
    active, _ = make_key(workspace)
    revoked, _ = make_key(workspace)
    revoked.revoke(by=BY_TEST)

    def with_secret_of_its_own(key_id: str) -> Callable[[], object]:
        body = f"one_{key_id}_{keys.generate().secret[17:-6]}"
        return lambda: Api(body + keys.checksum(body)).get("/me")

    ids = {"unknown": keys.generate().key_id, "active": active.key_id, "revoked": revoked.key_id}
    assert alike({name: with_secret_of_its_own(key_id) for name, key_id in ids.items()}, rounds=60)


def test_a_hash_that_is_left_out_would_be_found(owner: User) -> None:
    acts: dict[str, Callable[[], object]] = {
        "with": lambda: owner.check_password("a wrong guess"),
        "without": lambda: User.objects.filter(email="nobody@example.com").first(),
    }

    assert not alike(acts, rounds=15)
