"""Chromium, and granian over the test database."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import connection, connections
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

from tests.helpers import Visit, sign_in
from tests.processes import manage, program, server
from workspaces.models import User

PRODUCTION = {
    "DEBUG": "off",
    "SECRET_KEY": secrets.token_urlsafe(50),
    "ALLOWED_HOSTS": "onehorizon.example",
    "CACHE_URL": "redis://cache.example",
    "DATABASE_URL": "postgres://onehorizon@database.example/onehorizon",
}
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
PAGE_TIMEOUT = 60_000  # milliseconds, for one thing to appear on a page
expect.set_options(timeout=PAGE_TIMEOUT)


@pytest.fixture(scope="session")
def browser(django_db_setup: None) -> Iterator[Browser]:
    install = "apt-get install chromium-headless-shell (or your system's equivalent, or chromium)"
    path = program("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", install=install)
    # Playwright's event loop keeps running in this thread. Django forbids its ORM there unless this variable is set,
    # and opens another connection, which needs the rows of the migrations too: tests that commit restore them.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    migrated = connection._test_serialized_contents  # type: ignore[attr-defined]
    connections.close_all()
    with sync_playwright() as playwright:
        connection._test_serialized_contents = migrated  # type: ignore[attr-defined]
        launched = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield launched
        launched.close()
        connections.close_all()


def static_files_in(directory: Path) -> dict[str, str]:
    """Return the environment variables of a process whose static files are in `directory`."""
    return {"DJANGO_SETTINGS_MODULE": "tests.system.collected_settings", "COLLECTED": str(directory)}


@pytest.fixture(scope="session")
def collected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment variables of a process in production whose static files have been collected."""
    variables = static_files_in(tmp_path_factory.mktemp("collected"))
    result = manage("collectstatic", "--no-input", "--verbosity=0", **PRODUCTION | variables)
    assert result.returncode == 0, result.stderr
    return variables


@pytest.fixture(scope="session")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The server's log."""
    return tmp_path_factory.mktemp("server") / "log"


@pytest.fixture(scope="session")
def site(django_db_setup: None, log: Path) -> Iterator[str]:
    """The URL of a granian server on the test database."""
    with server(log) as url:
        yield url


@pytest.fixture
def visit(browser: Browser, site: str) -> Iterator[Visit]:
    """`visit(owner)` opens a page in a new browser context, signed in as the owner; `visit()` opens it signed out.

    The test fails if a script fails, the Content-Security-Policy blocks something, or the page requests another site.
    """
    contexts = []
    page_errors: list[str] = []

    def check_message(message: ConsoleMessage) -> None:
        if "Content Security" in message.text:
            page_errors.append(message.text)

    def check_request(request: Request) -> None:
        if not request.url.startswith(site):
            page_errors.append(f"request to {request.url}")

    def open_browser(user: User | None = None, **options: Any) -> Page:
        options = {"viewport": {"width": 1280, "height": 900}, "base_url": site} | options
        context = browser.new_context(**options)
        contexts.append(context)
        if user is not None:
            value = sign_in(user).cookies[django_settings.SESSION_COOKIE_NAME].value
            context.add_cookies([{"name": django_settings.SESSION_COOKIE_NAME, "value": value, "url": site}])
        page = context.new_page()
        page.set_default_timeout(PAGE_TIMEOUT)
        page.on("pageerror", lambda error: page_errors.append(f"script: {error}"))
        page.on("console", check_message)
        page.on("request", check_request)
        return page

    yield open_browser
    for context in contexts:
        context.close()
    assert page_errors == []
