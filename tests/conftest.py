from __future__ import annotations

from typing import Any

import pytest
from django.core.cache import cache

from apikeys import secrets
from apikeys.models import ApiKey
from apikeys.throttling import failures
from tests.helpers import Api, make_key, make_user, make_workspace
from workspaces.models import User, Workspace


@pytest.fixture(autouse=True)
def _quick_hashes(settings: Any) -> None:
    settings.APIKEYS_ARGON2_MEMORY_COST = 64
    settings.APIKEYS_ARGON2_TIME_COST = 1
    settings.PASSWORD_HASHERS = ["tests.helpers.QuickPasswordHasher"]


@pytest.fixture(autouse=True)
def _fresh_process() -> None:
    """What a process remembers is none of the next test's business."""
    secrets.proofs.clear()
    failures.clear()
    cache.clear()


@pytest.fixture
def owner(db: None) -> User:
    return make_user("owner")


@pytest.fixture
def admin(db: None) -> User:
    return make_user("admin")


@pytest.fixture
def member(db: None) -> User:
    return make_user("member")


@pytest.fixture
def outsider(db: None) -> User:
    return make_user("outsider")


@pytest.fixture
def workspace(owner: User, admin: User, member: User) -> Workspace:
    return make_workspace(owner, admin=admin, member=member)


@pytest.fixture
def elsewhere(outsider: User) -> Workspace:
    """The outsider's own workspace."""
    return make_workspace(outsider, slug="elsewhere")


@pytest.fixture
def _key(workspace: Workspace) -> tuple[ApiKey, str]:
    return make_key(workspace)


@pytest.fixture
def api_key(_key: tuple[ApiKey, str]) -> ApiKey:
    return _key[0]


@pytest.fixture
def secret(_key: tuple[ApiKey, str]) -> str:
    return _key[1]


@pytest.fixture
def api(secret: str) -> Api:
    """The REST API with the workspace's key."""
    return Api(secret)
