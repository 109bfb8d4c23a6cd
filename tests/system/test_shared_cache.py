"""Rate limits of forms with a cache that several hosts share, also while the cache is unavailable."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import caches
from django.test import Client
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.processes import free_port, manage, process, program, wait_until_listening

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("_frozen_clock")]

TIMEOUT = 0.5  # seconds to wait for a response of the cache
WRONG = {"username": "owner@example.com", "password": "wrong"}


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that accepts connections and never responds."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield int(listener.getsockname()[1])


def use_cache(settings: Any, port: int) -> None:
    settings.CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": f"redis://127.0.0.1:{port}/0",
            "OPTIONS": {"socket_timeout": TIMEOUT, "socket_connect_timeout": TIMEOUT, "retry": Retry(NoBackoff(), 0)},
        },
        "forms": {"BACKEND": "core.ratelimits.SharedOrOwnCache", "LOCATION": "forms"},
    }
    settings.RATELIMIT_USE_CACHE = "forms"
    caches["forms"].clear()


@pytest.mark.parametrize("is_silent", [False, True], ids=["no connection", "no response"])
def test_forms_and_their_limits_work_while_the_cache_is_unavailable(
    is_silent: bool, silent_port: int, settings: Any, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    use_cache(settings, silent_port if is_silent else free_port())
    first = client.post("/sign-in/", WRONG)
    failures = caplog.text.count("shared cache unavailable, this process counts for itself")
    if not is_silent:
        statuses = [client.post("/sign-in/", WRONG).status_code for _ in range(10)]
        assert statuses == [200] * 9 + [429]

    assert first.status_code == 200
    assert 0 < failures * TIMEOUT < 5


def test_all_processes_share_the_counts_of_the_cache(settings: Any, client: Client, tmp_path: Path) -> None:
    redis = program("redis-server", install="apt-get install redis-server")
    port = free_port()
    log = tmp_path / "log"
    with process([redis, "--port", str(port), "--save", "", "--dir", str(tmp_path)], log) as started:
        wait_until_listening(port, started, log)
        use_cache(settings, port)
        statuses = [client.post("/sign-in/", WRONG).status_code for _ in range(11)]
        caches["default"].close()

    assert statuses == [200] * 10 + [429]


def test_the_environment_sets_the_cache(tmp_path: Path) -> None:
    result = manage(
        "shell",
        "-c",
        "from django.conf import settings as s; print(s.CACHES['default']['LOCATION'], s.RATELIMIT_USE_CACHE,"
        " s.CACHES['default']['OPTIONS']['socket_timeout'])",
        CACHE_URL="redis://10.0.0.8:6379/0",
    )

    assert "redis://10.0.0.8:6379/0" in result.stdout
    assert "forms 0.5" in result.stdout
