"""Rate limits with a cache that several hosts share, also while the cache is unavailable."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from django.core.cache import caches
from django.test import Client
from redis import StrictRedis
from redis.backoff import NoBackoff
from redis.retry import Retry

from core.ratelimits import FailureLimit, SharedOrOwnCache
from tests.helpers import Api, send_form
from tests.processes import free_port, in_processes, manage, process, program, wait_until_listening

pytestmark = [pytest.mark.django_db, pytest.mark.one_database("counts in Redis and in memory")]

TIMEOUT = 0.5  # seconds to wait for a response of a cache that doesn't respond
PATIENT = 60  # and of one that does, also on a busy machine
WRONG = {"username": "owner@example.com", "password": "wrong"}
UNAVAILABLE = "shared cache unavailable, this process counts for itself"
CLIENT = "203.0.113.7"


class Redis(NamedTuple):
    process: subprocess.Popen[bytes]
    port: int


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    program_path = program("redis-server", install="apt-get install redis-server")
    directory, port = tmp_path_factory.mktemp("redis"), free_port()
    log = directory / "log"
    arguments = [program_path, "--port", str(port), "--save", "", "--dir", str(directory)]
    with process(arguments, log) as started:
        wait_until_listening(port, started, log)
        yield Redis(started, port)


@pytest.fixture
def redis(redis_server: Redis) -> Redis:
    with StrictRedis(port=redis_server.port) as connection:
        connection.flushall()
    return redis_server


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that accepts connections and never responds."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield int(listener.getsockname()[1])


UseCache = Callable[..., None]


@pytest.fixture
def use_cache(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[UseCache]:
    """`use_cache(port, timeout)` uses the Redis on this port, and waits `timeout` seconds for a response."""
    monkeypatch.setattr(SharedOrOwnCache, "_retry_at", None)
    monkeypatch.setattr(SharedOrOwnCache, "PAUSE", 3600)
    monkeypatch.setattr(SharedOrOwnCache, "SLOW", 3600)

    def use_cache(port: int, timeout: float) -> None:
        settings.CACHES = {
            "default": {
                "BACKEND": "django.core.cache.backends.redis.RedisCache",
                "LOCATION": f"redis://127.0.0.1:{port}/0",
                "OPTIONS": {
                    "socket_timeout": timeout,
                    "socket_connect_timeout": timeout,
                    "retry": Retry(NoBackoff(), 0),
                },
            },
            "forms": {"BACKEND": "core.ratelimits.SharedOrOwnCache", "LOCATION": "forms"},
            "failures": {"BACKEND": "core.ratelimits.SharedOrOwnCache", "LOCATION": "failures"},
        }
        for alias in ("forms", "failures"):
            caches[alias].clear()  # the counts of this process

    yield use_cache
    caches["default"].close()


def fail(times: int = 1) -> list[int]:
    return [Api("one_wrong").get("/me", REMOTE_ADDR=CLIENT).status_code for _ in range(times)]


@pytest.mark.usefixtures("_frozen_clock")
@pytest.mark.parametrize("is_silent", [False, True], ids=["no connection", "no response"])
def test_limits_hold_while_the_cache_is_unavailable_and_only_the_first_request_waits_for_it(
    is_silent: bool,
    silent_port: int,
    use_cache: UseCache,
    settings: Any,
    client: Client,
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings.APIKEYS_FAILURES_PER_MINUTE = 3
    use_cache(silent_port if is_silent else free_port(), TIMEOUT)

    assert fail(5) == [401] * 3 + [429] * 2
    assert [client.post("/sign-in/", WRONG).status_code for _ in range(11)] == [200] * 10 + [429]
    assert caplog.text.count(UNAVAILABLE) == 1


@pytest.mark.usefixtures("_frozen_clock")
def test_all_processes_share_the_counts_of_forms(redis: Redis, use_cache: UseCache, client: Client) -> None:
    use_cache(redis.port, PATIENT)

    assert [client.post("/sign-in/", WRONG).status_code for _ in range(11)] == [200] * 10 + [429]
    caches["forms"].clear()
    assert client.post("/sign-in/", WRONG).status_code == 429


def test_all_processes_share_the_counts_of_failed_authentications(
    redis: Redis, use_cache: UseCache, monkeypatch: pytest.MonkeyPatch, api: Api
) -> None:
    monkeypatch.setenv("CACHE_URL", f"redis://127.0.0.1:{redis.port}/0")
    monkeypatch.setattr(FailureLimit, "SECONDS", 3600)  # longer than any test

    outputs = in_processes(
        4,
        f"""
        from django.conf import settings
        from apikeys.throttling import failures
        from core.ratelimits import RateLimited, SharedOrOwnCache
        settings.CACHES["default"]["OPTIONS"].update(socket_timeout={PATIENT}, socket_connect_timeout={PATIENT})
        SharedOrOwnCache.SLOW = failures.SECONDS = 3600
        counted = 0
        for _ in range(40):
            try:
                failures.count({CLIENT!r})
                counted += 1
            except RateLimited:
                pass
        print(counted)
        """,
    )

    assert 120 <= sum(map(int, outputs)) <= 120 + 3  # one more for each concurrent request
    use_cache(redis.port, PATIENT)
    assert fail(2) == [429] * 2
    assert Api("one_wrong").get("/me", REMOTE_ADDR="203.0.113.8").status_code == 401
    assert api.get("/me", REMOTE_ADDR=CLIENT).status_code == 200


@pytest.mark.usefixtures("_frozen_clock")
def test_the_limit_on_client_secrets_is_shared_and_checked_first(
    redis: Redis, use_cache: UseCache, settings: Any
) -> None:
    settings.APIKEYS_FAILURES_PER_MINUTE = 3
    use_cache(redis.port, PATIENT)
    form = {"client_id": "unknown", "client_secret": "guess", "grant_type": "refresh_token", "refresh_token": "x"}

    def send() -> int:
        return int(send_form("/app/auth/token", form, REMOTE_ADDR=CLIENT).status_code)

    assert [send() for _ in range(4)] == [401] * 3 + [429]
    caches["failures"].clear()
    assert send() == 429
    assert fail() == [401], "bearer tokens have their own limit"


@pytest.mark.usefixtures("_frozen_clock")
def test_a_cache_that_hangs_is_used_again_once_it_responds(
    redis: Redis, use_cache: UseCache, settings: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings.APIKEYS_FAILURES_PER_MINUTE = 2
    use_cache(redis.port, TIMEOUT)
    redis.process.send_signal(signal.SIGSTOP)
    try:
        assert fail(4) == [401, 401, 429, 429]
        assert caplog.text.count(UNAVAILABLE) == 1
    finally:
        redis.process.send_signal(signal.SIGCONT)
    assert fail() == [429], "the pause has not ended"

    use_cache(redis.port, PATIENT)
    monkeypatch.setattr(SharedOrOwnCache, "_retry_at", 0.0)  # the pause has ended

    assert fail(4) == [401, 401, 429, 429]
    assert caplog.text.count(UNAVAILABLE) == caplog.text.count("shared cache available again") == 1
    caches["failures"].clear()
    assert fail() == [429]


@pytest.mark.usefixtures("_frozen_clock")
def test_a_slow_cache_counts_as_unavailable(
    redis: Redis, use_cache: UseCache, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    use_cache(redis.port, PATIENT)
    monkeypatch.setattr(SharedOrOwnCache, "SLOW", -1)

    assert fail(4) == [401] * 4

    assert caplog.text.count(f"{UNAVAILABLE}: a response took") == 1


@pytest.mark.usefixtures("_frozen_clock")
def test_a_form_that_is_counted_while_the_cache_becomes_unavailable_is_not_rejected(
    redis: Redis, use_cache: UseCache, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shared cache has the count, and does not respond to the request that increments it."""
    use_cache(redis.port, PATIENT)
    assert client.post("/sign-in/", WRONG).status_code == 200
    monkeypatch.setattr(SharedOrOwnCache, "SLOW", -1)  # the next response is the last one

    assert client.post("/sign-in/", WRONG).status_code == 200


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
