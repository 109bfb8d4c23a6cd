from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core.cache import cache
from django.db import connection, connections
from django.test import Client
from django.utils import timezone
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from playwright.sync_api import Browser, Page, expect, sync_playwright
from time_machine import TimeMachineFixture

from apikeys import hashing
from apikeys.models import ApiKey
from apikeys.throttling import client_failures, failures
from tests import sweep
from tests.helpers import Api, Visit, make_key, make_user, make_workspace, program, server
from workspaces.models import User, Workspace

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]

# Nothing fails because the machine is busy.
hypothesis_settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("patient")
PAGE_PATIENCE = 60_000  # milliseconds, for one thing to appear on a page
expect.set_options(timeout=PAGE_PATIENCE)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(sweep.Plugin(), "sweep")


@pytest.fixture(autouse=True)
def _quick_hashes(settings: Any) -> None:
    settings.APIKEYS_ARGON2_MEMORY_COST = 64
    settings.APIKEYS_ARGON2_TIME_COST = 1
    settings.PASSWORD_HASHERS = ["tests.helpers.QuickPasswordHasher"]


@pytest.fixture(autouse=True)
def _fresh_process() -> None:
    """What a process remembers is none of the next test's business."""
    hashing.proofs.clear()
    failures.clear()
    client_failures.clear()
    cache.clear()


@pytest.fixture
def _frozen_clock(time_machine: TimeMachineFixture) -> None:
    """Stops the wall clock of this process: a limit in fixed windows counts in one, and no day ends.

    `time.monotonic()` goes on, so timeouts work. The database's clock goes on too.
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


# ---- real Chromium against a real server (granian) over the test database ----


@pytest.fixture(scope="session")
def browser(django_db_setup: None) -> Iterator[Browser]:
    install = "apt-get install chromium-headless-shell (or your system's like, or chromium)"
    path = program("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", install=install)
    # Playwright's event loop stays in this thread from here on. There Django would refuse its ORM, and has another
    # connection, which must know the rows of the migrations too: every test that commits starts from them.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    migrated = connection._test_serialized_contents  # type: ignore[attr-defined]
    connections.close_all()
    with sync_playwright() as playwright:
        connection._test_serialized_contents = migrated  # type: ignore[attr-defined]
        launched = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield launched
        launched.close()
        connections.close_all()


@pytest.fixture(scope="session")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the server has logged."""
    return tmp_path_factory.mktemp("server") / "log"


@pytest.fixture(scope="session")
def site(django_db_setup: None, log: Path) -> Iterator[str]:
    """The address of the site."""
    with server(log) as address:
        yield address


@pytest.fixture
def visit(browser: Browser, site: str) -> Iterator[Visit]:
    """`visit(owner)` opens a browser of the owner's own, signed in; `visit()` one of nobody's.

    Its page fails the test when a script fails, or when anything but the site is asked for anything.
    """
    contexts = []
    complaints: list[str] = []

    def open_browser(user: User | None = None, **options: Any) -> Page:
        options = {"viewport": {"width": 1280, "height": 900}, "base_url": site} | options
        context = browser.new_context(**options)
        contexts.append(context)
        if user is not None:
            signed_in = Client()
            signed_in.force_login(user)
            value = signed_in.cookies[django_settings.SESSION_COOKIE_NAME].value
            context.add_cookies([{"name": django_settings.SESSION_COOKIE_NAME, "value": value, "url": site}])
        page = context.new_page()
        page.set_default_timeout(PAGE_PATIENCE)
        page.on("pageerror", lambda error: complaints.append(f"script: {error}"))
        page.on("console", lambda said: complaints.append(said.text) if "Content Security" in said.text else None)
        page.on("request", lambda sent: None if sent.url.startswith(site) else complaints.append(f"asked {sent.url}"))
        return page

    yield open_browser
    for context in contexts:
        context.close()
    assert complaints == []
