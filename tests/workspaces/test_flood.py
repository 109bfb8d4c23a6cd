"""A flood of sign-ins and client secrets takes a bounded share of the threads. Other requests are answered."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.contrib.auth.hashers import Argon2PasswordHasher, check_password, make_password
from django.test import Client

from core.argon2 import ThreadShare, TooBusy, password_share
from oauth.models import Application
from tests.helpers import Api, QuickPasswordHasher, send_form, sign_in
from tests.processes import TIMEOUT, wait_until
from workspaces.models import User

pytestmark = pytest.mark.django_db

OWNER = {"username": "owner@example.com", "password": "owner-password"}


class BlockingArgon2(Argon2PasswordHasher):
    """Argon2 that takes until `released`, for the password `slow` only."""

    released = threading.Event()

    def verify(self, password: str, encoded: str) -> bool:
        if password == "slow":
            self.released.wait(TIMEOUT)
        return super().verify(password, encoded)


class SlowHasher(QuickPasswordHasher, BlockingArgon2):
    """`BlockingArgon2` inside the limit of `PasswordHasher`."""


@pytest.fixture
def _flood(settings: Any) -> Iterator[None]:
    """Check passwords in as many threads as may, until `BlockingArgon2.released` is set."""
    settings.PASSWORD_HASHERS = ["tests.workspaces.test_flood.SlowHasher"]
    BlockingArgon2.released.clear()
    encoded = make_password("password")
    count = settings.SERVER_THREADS // 2 * 2
    with ThreadPoolExecutor(count) as threads:
        checks = [threads.submit(check_password, "slow", encoded) for _ in range(count)]
        try:
            wait_until(lambda: password_share._inside == count)
            yield
        finally:
            BlockingArgon2.released.set()
    assert [check.exception() for check in checks] == [None] * count


@pytest.fixture
def server_application(db: None) -> Application:
    """A confidential client."""
    application: Application = Application.objects.create(
        name="Server",
        client_type=Application.CLIENT_CONFIDENTIAL,
        authorization_grant_type=Application.GRANT_AUTHORIZATION_CODE,
        redirect_uris="https://example.com/",
        client_secret="s3cret",
    )
    return application


@pytest.mark.usefixtures("workspace")
def test_during_a_flood_of_sign_ins_only_passwords_and_client_secrets_are_rejected(
    owner: User,
    api: Api,
    server_application: Application,
    request: pytest.FixtureRequest,
    caplog: pytest.LogCaptureFixture,
) -> None:
    form = {"token": "x", "client_id": server_application.client_id, "client_secret": "s3cret"}
    forms = {"token": form | {"grant_type": "refresh_token", "refresh_token": "x"}, "revoke": form, "device": form}
    change = {
        "old_password": "owner-password",
        "new_password1": "a-new-password-1",
        "new_password2": "a-new-password-1",
    }
    signed_in = sign_in(owner)
    request.getfixturevalue("_flood")

    pages = [Client().post("/sign-in/", OWNER), signed_in.post("/settings/password/", change)]
    programs = [send_form(f"/app/auth/{name}", fields) for name, fields in forms.items()]

    assert [response.status_code for response in pages + programs] == [503] * 5
    assert {response["Retry-After"] for response in pages + programs} == {"5"}
    warnings = [record.__dict__ for record in caplog.records if record.levelname == "WARNING"]
    assert [(warning["status"], warning["cause"]) for warning in warnings] == [(503, "busy")] * 5
    assert all("Too many people are signing in" in response.content.decode() for response in pages)
    assert {response.json()["error"] for response in programs} == {"temporarily_unavailable"}
    assert api.get("/me").status_code == 200
    assert [Client().get(path).status_code for path in ("/healthz", "/readyz", "/sign-in/")] == [200] * 3
    assert signed_in.get("/workspaces/").status_code == 200

    BlockingArgon2.released.set()
    wait_until(lambda: can_run(password_share))
    assert Client().post("/sign-in/", OWNER).status_code == 302
    assert send_form("/app/auth/revoke", form).status_code == 200


def busy(share: ThreadShare, started: threading.Event, released: threading.Event) -> None:
    with share.run():
        started.set()
        released.wait(TIMEOUT)


def test_a_few_runs_at_once_wait_for_each_other() -> None:
    share = ThreadShare(runs=1, threads=2, burst=TIMEOUT)
    started, released = threading.Event(), threading.Event()
    with ThreadPoolExecutor(4) as threads:
        runs = [threads.submit(busy, share, started, released) for _ in range(4)]
        started.wait(TIMEOUT)
        wait_until(lambda: share._inside == 4)
        assert not can_run(share)
        released.set()

    assert [run.exception() for run in runs] == [None] * 4
    assert can_run(share)


def test_after_a_burst_no_run_begins_until_the_share_is_free_again() -> None:
    share = ThreadShare(runs=2, threads=1, burst=0)
    events = [(threading.Event(), threading.Event()) for _ in range(2)]
    with ThreadPoolExecutor(2) as threads:
        runs = [threads.submit(busy, share, *pair) for pair in events]
        for started, _ in events:
            started.wait(TIMEOUT)
        events[0][1].set()
        wait_until(lambda: share._inside == 1)
        assert not can_run(share)
        events[1][1].set()

    assert [run.exception() for run in runs] == [None] * 2
    wait_until(lambda: can_run(share))


def can_run(share: ThreadShare) -> bool:
    try:
        with share.run():
            return True
    except TooBusy:
        return False
