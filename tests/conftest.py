from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.apps import apps
from django.core.cache import caches
from django.db import connection
from django.test import Client
from django.utils import timezone
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from pytest_django.plugin import blocking_manager_key
from time_machine import TimeMachineFixture

from apikeys import hashing, usage
from apikeys.models import ApiKey
from tests import sweep
from tests.helpers import Api, make_key, make_staff, make_user, make_workspace, sign_in
from workspaces import ids
from workspaces.models import User, Workspace

# No deadlines: a test must not fail because the machine is busy.
hypothesis_settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("patient")


# Tables that only migrations write.
FIXED_TABLES = {"auth_group", "auth_group_permissions", "auth_permission", "django_content_type"}


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(sweep.Plugin(), "sweep")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """Restore the rows of the migrations after a test that commits, because Django deletes them.

    pytest-django runs such tests last, but `--dist worksteal` can give a worker other tests after them.
    """
    yield
    if nextitem is None or not hasattr(connection, "_test_serialized_contents"):
        return  # after the last test the database is deleted; before the first that is not skipped it is not created
    marker = item.get_closest_marker("django_db")
    fixtures = {"transactional_db", "live_server"} & set(getattr(item, "fixturenames", []))
    if fixtures or (marker is not None and marker.kwargs.get("transaction")):
        with item.config.stash[blocking_manager_key].unblock():
            rows = connection._test_serialized_contents
            connection.creation.deserialize_db_from_string(rows)


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None) -> Iterator[None]:
    """After a test that commits, delete rows instead of truncating tables, and keep the `FIXED_TABLES`.

    Django's flush truncates, which takes PostgreSQL a hundred times as long: it replaces each table's files.
    """

    def sql_flush(operations: Any, style: Any, tables: list[str], **_: Any) -> list[str]:
        names = [operations.quote_name(table) for table in tables if table not in FIXED_TABLES]
        lock = [f"LOCK TABLE {', '.join(names)}"] if connection.vendor == "postgresql" else []  # as TRUNCATE does
        return [*lock, *(f"DELETE FROM {name}" for name in names)]

    fixed = {model._meta.label_lower for model in apps.get_models() if model._meta.db_table in FIXED_TABLES}
    if hasattr(connection, "_test_serialized_contents"):  # only if a test of this run commits
        rows = json.loads(connection._test_serialized_contents)
        changeable = [row for row in rows if row["model"] not in fixed]
        connection._test_serialized_contents = json.dumps(changeable)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(connection.ops), "sql_flush", sql_flush)
        yield


@pytest.fixture(autouse=True)
def _quick_hashes(settings: Any) -> None:
    settings.APIKEYS_ARGON2_MEMORY_COST = 64
    settings.APIKEYS_ARGON2_TIME_COST = 1
    settings.PASSWORD_HASHERS = ["tests.helpers.QuickPasswordHasher"]


@pytest.fixture(autouse=True)
def _fresh_process() -> None:
    """Clear the caches of this process, so that no test affects the next one.

    Ids never decrease, so a test that moves the clock forward would give those of later tests a time in the future.
    """
    ids._last = 0
    hashing.proofs.clear()
    usage.recorder._counts.clear()
    usage.recorder._batches.clear()
    for cache in caches.all():
        cache.clear()


@pytest.fixture
def _frozen_clock(time_machine: TimeMachineFixture) -> None:
    """Stop this process's wall clock, so that neither a fixed rate limit window nor a day ends during the test.

    `time.monotonic()` and the database's clock keep running, so timeouts work.
    """
    time_machine.move_to(timezone.now(), tick=False)


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
def operator(db: None) -> User:
    return make_staff("operator", "operators")


@pytest.fixture
def admin_client(operator: User) -> Client:
    """The operator's client, signed in to the Django admin."""
    return sign_in(operator)


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
def owner_client(owner: User) -> Client:
    return sign_in(owner)


@pytest.fixture
def keys_url(workspace: Workspace) -> str:
    return f"/w/{workspace.pk}/settings/developer/api-keys/"


@pytest.fixture
def key_url(keys_url: str, api_key: ApiKey) -> str:
    return f"{keys_url}{api_key.pk}/"


@pytest.fixture
def api(secret: str) -> Api:
    """The REST API with the workspace's key."""
    return Api(secret)
