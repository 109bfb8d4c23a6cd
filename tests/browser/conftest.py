"""Real Chromium against a real server (granian) over the test database."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import connection, connections
from django.test import Client
from playwright.sync_api import Browser, Page, sync_playwright

from tests.helpers import server
from workspaces.models import User, Workspace

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]

Visit = Callable[..., Page]

# The server is another process: it sees what is committed.
committed = pytest.mark.django_db(transaction=True, serialized_rollback=True)


@pytest.fixture(scope="session")
def browser(django_db_setup: None) -> Iterator[Browser]:
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        sentence = "The browser tests need Chromium: apt-get install chromium (or your system's like)."
        if os.environ.get("CI"):
            pytest.fail(sentence)
        pytest.skip(sentence)
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
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: complaints.append(f"script: {error}"))
        page.on("console", lambda said: complaints.append(said.text) if "Content Security" in said.text else None)
        page.on("request", lambda sent: None if sent.url.startswith(site) else complaints.append(f"asked {sent.url}"))
        return page

    yield open_browser
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def keys_url(workspace: Workspace) -> str:
    return f"/w/{workspace.pk}/settings/developer/api-keys/"
