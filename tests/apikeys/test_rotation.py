"""Rotation: a key gets a new secret, and the old one works until the overlap ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.core.exceptions import ValidationError
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext

from apikeys import hashing
from apikeys.models import ApiKey, KeyAlreadyRotated, KeyNotRotated, StoredSecret
from tests.apikeys.conftest import Argon2Runs
from tests.helpers import BY_TEST, Api, failing_events, make_key
from workspaces.access import CredentialRejected
from workspaces.models import Workspace

pytestmark = pytest.mark.django_db

NOON = datetime(2030, 5, 1, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


@contextmanager
def at(seconds: float) -> Iterator[None]:
    with time_machine.travel(NOON + timedelta(seconds=seconds), tick=False):
        yield


def rotate(api_key: ApiKey, overlap: timedelta = HOUR, **options: Any) -> str:
    return api_key.rotate(overlap=overlap, by=BY_TEST, **options)


def statuses(*secrets: str) -> list[int]:
    return [Api(secret).get("/me").status_code for secret in secrets]


def use(secret: str, seconds: float, ip: str = "203.0.113.7") -> None:
    with at(seconds):
        assert Api(secret).get("/me", REMOTE_ADDR=ip).status_code == 200


def stored(api_key: ApiKey) -> ApiKey:
    """Return the key as the page reads it."""
    return ApiKey.objects.with_secrets().get(pk=api_key.pk)


# ---- secrets ----


def test_both_secrets_work_until_the_overlap_ends(api_key: ApiKey, secret: str) -> None:
    with time_machine.travel(datetime.now(UTC) - HOUR - timedelta(seconds=1)):
        new_secret = rotate(api_key, HOUR + timedelta(seconds=30))
    assert statuses(secret, new_secret) == [200, 200]

    StoredSecret.objects.filter(replaced_at__isnull=False).update(ends_at=datetime.now(UTC))
    assert statuses(secret, new_secret) == [401, 200]


def test_without_an_overlap_the_old_secret_ends_at_once(api_key: ApiKey, secret: str) -> None:
    new_secret = rotate(api_key, timedelta())

    assert statuses(secret, new_secret) == [401, 200]
    assert stored(api_key).previous_secret is None


def test_a_secret_that_was_ended_is_rejected_by_a_host_whose_clock_is_behind(workspace: Workspace) -> None:
    (ended, first), (rotated, second) = make_key(workspace), make_key(workspace)
    rotate(ended)
    ended.end_previous_secret(by=BY_TEST)
    rotate(rotated, timedelta())

    with time_machine.travel(datetime.now(UTC) - timedelta(seconds=10)):
        for secret in (first, second):
            with pytest.raises(CredentialRejected, match="ended"):
                StoredSecret.objects.authenticate(secret)


def test_a_rotation_keeps_the_key(api_key: ApiKey, workspace: Workspace) -> None:
    before = ApiKey.objects.values().get()

    rotate(api_key)

    assert ApiKey.objects.values().get() == before
    assert workspace.api_keys.active().count() == 1


def test_the_secret_before_the_previous_one_ends(api_key: ApiKey, secret: str) -> None:
    second, third = rotate(api_key), rotate(api_key)

    assert statuses(secret, second, third) == [401, 200, 200]
    assert stored(api_key).secrets.count() == 3


def test_the_instance_has_its_new_secrets(api_key: ApiKey) -> None:
    old = api_key.current_secret

    rotate(api_key)

    saved = stored(api_key)
    assert (api_key.current_secret, api_key.previous_secret) == (saved.current_secret, saved.previous_secret)
    assert saved.previous_secret == old
    assert api_key.masked != old.masked


def test_a_revoked_or_expired_key_has_no_previous_secret(workspace: Workspace) -> None:
    (revoked, first), (expired, second) = make_key(workspace), make_key(workspace)
    rotate(revoked)
    rotate(expired)
    revoked.revoke(by=BY_TEST)
    ApiKey.objects.filter(pk=expired.pk).update(expires_at=datetime.now(UTC))

    assert statuses(first, second) == [401, 401]
    assert [stored(api_key).previous_secret for api_key in (revoked, expired)] == [None, None]
    assert not stored(revoked).end_previous_secret(by=BY_TEST)


@pytest.mark.parametrize("seconds", [-1, 7 * 86_400 + 1])
def test_an_overlap_is_at_least_nothing_and_at_most_seven_days(api_key: ApiKey, seconds: int) -> None:
    with pytest.raises(ValidationError):
        rotate(api_key, timedelta(seconds=seconds))

    assert api_key.secrets.count() == 1


def test_an_overlap_does_not_outlive_the_key(workspace: Workspace) -> None:
    with at(0):
        api_key, _ = make_key(workspace, expires_at=NOON + timedelta(minutes=5))
        rotate(api_key)

        assert api_key.previous_secret is not None
        assert api_key.previous_secret.ends_at == NOON + timedelta(minutes=5)


def test_a_rotation_that_expects_another_secret_changes_nothing(api_key: ApiKey, secret: str) -> None:
    first = api_key.current_secret.key_id
    second = rotate(api_key, replacing=first)

    with pytest.raises(KeyNotRotated, match=r"was rotated in the meantime: its current secret is one_\w+_…"):
        rotate(api_key, replacing=first)

    assert statuses(secret, second) == [200, 200]


def test_only_the_expected_previous_secret_is_ended(api_key: ApiKey, secret: str) -> None:
    first = api_key.current_secret.key_id
    second = rotate(api_key)
    third = rotate(api_key)

    assert not api_key.end_previous_secret(by=BY_TEST, key_id=first)
    assert statuses(second, third) == [200, 200]
    assert api_key.end_previous_secret(by=BY_TEST, key_id=second[4:16])
    assert statuses(second, third) == [401, 200]
    assert not api_key.end_previous_secret(by=BY_TEST)


def test_a_change_without_its_audit_event_is_not_made(api_key: ApiKey, secret: str) -> None:
    rotate(api_key)

    with failing_events():
        for change in (lambda: rotate(api_key), lambda: api_key.end_previous_secret(by=BY_TEST)):
            with pytest.raises(Exception, match="no event"):
                change()

    assert statuses(secret) == [200]
    assert api_key.secrets.count() == 2


def test_the_history_has_every_step(api_key: ApiKey) -> None:
    with at(0):
        first = api_key.masked
        rotate(api_key)
        second = api_key.masked
        rotate(api_key, timedelta(days=1))
        third = api_key.masked
        api_key.end_previous_secret(by=BY_TEST)
        rotate(api_key, timedelta())

    assert [event.sentence for event in api_key.audit_events[::-1]] == [
        "Created as “CI, production”",
        f"Rotated to {second}; the old secret {first} works until 1 May 2030, 13:00 UTC",
        f"Old secret {first} ended",
        f"Rotated to {third}; the old secret {second} works until 2 May 2030, 12:00 UTC",
        f"Old secret {second} ended",
        f"Rotated to {api_key.masked}; the old secret {third} ended",
    ]


def test_a_repeated_rotation_is_recognized_for_thirty_days(api_key: ApiKey) -> None:
    with at(0):
        rotate(api_key, idempotency_key="a" * 64)
    with at(29 * 86_400):
        assert not StoredSecret.objects.with_old_idempotency_key().exists()
        with pytest.raises(KeyAlreadyRotated):
            rotate(api_key, idempotency_key="a" * 64)
    with at(30 * 86_400):
        assert StoredSecret.objects.with_old_idempotency_key().clear_idempotency_keys() == 1

    assert api_key.secrets.count() == 2
    rotate(api_key, idempotency_key="a" * 64)
    assert api_key.secrets.count() == 3


def test_other_processes_verify_a_new_secret_without_argon2(
    api_key: ApiKey, secret: str, argon2_runs: Argon2Runs
) -> None:
    new_secret = rotate(api_key)
    assert argon2_runs.count == 1  # to hash it
    hashing.proofs.clear()

    assert statuses(new_secret, secret) == [200, 200]
    assert argon2_runs.count == 1


# ---- use ----


def test_each_secret_has_its_own_last_use(api_key: ApiKey, secret: str) -> None:
    use(secret, 0, "203.0.113.7")
    with at(10):
        new_secret = rotate(api_key)
    assert stored(api_key).current_secret.last_used_at is None

    use(new_secret, 20, "203.0.113.8")

    with at(30):
        current, previous = stored(api_key).current_secret, stored(api_key).previous_secret
        assert previous is not None
        assert (previous.last_used_at, previous.last_used_from) == (NOON, "203.0.113.7")
        assert (current.last_used_at, current.last_used_from) == (NOON + timedelta(seconds=20), "203.0.113.8")


def test_an_old_secret_is_quiet_once_only_the_new_one_is_used(api_key: ApiKey, secret: str) -> None:
    use(secret, 0)
    with at(10):
        new_secret = rotate(api_key)
        assert not stored(api_key).previous_secret_is_quiet
    use(secret, 120)
    with at(130):
        assert not stored(api_key).previous_secret_is_quiet
    use(new_secret, 140)
    with at(140):
        assert stored(api_key).previous_secret_is_quiet


def test_an_old_secret_is_quiet_again_after_an_hour_in_which_only_the_new_one_was_used(
    api_key: ApiKey, secret: str
) -> None:
    with at(0):
        new_secret = rotate(api_key, overlap=timedelta(days=1))
    use(new_secret, 1)
    use(secret, 2)
    use(new_secret, 3600)
    with at(3600):
        assert not stored(api_key).previous_secret_is_quiet

    use(new_secret, 3660)

    with at(3660):
        assert stored(api_key).previous_secret_is_quiet
    use(secret, 3670)
    with at(3670):
        assert not stored(api_key).previous_secret_is_quiet


def test_an_old_secret_that_was_never_used_is_quiet(api_key: ApiKey) -> None:
    with at(0):
        new_secret = rotate(api_key)
        assert not stored(api_key).previous_secret_is_quiet
    use(new_secret, 1)

    with at(2):
        assert stored(api_key).previous_secret_is_quiet


def test_a_use_of_the_old_secret_after_the_first_use_of_the_new_one_is_saved_at_once(
    api_key: ApiKey, secret: str
) -> None:
    """Also within a minute of its last use, when it would otherwise not be saved."""
    with at(0):
        new_secret = rotate(api_key)
    use(secret, 1)
    use(new_secret, 2)
    with at(2):
        assert stored(api_key).previous_secret_is_quiet

    use(secret, 3)

    with at(3):
        assert not stored(api_key).previous_secret_is_quiet
        previous = stored(api_key).previous_secret
        assert previous is not None
        assert previous.last_used_at == NOON + timedelta(seconds=3)


def test_the_old_secret_is_saved_once_a_minute_too(api_key: ApiKey, secret: str) -> None:
    with at(0):
        new_secret = rotate(api_key)
    use(new_secret, 1)
    use(secret, 2)

    for seconds in (3, 30, 61):
        use(secret, seconds)
        with at(seconds):
            previous = stored(api_key).previous_secret
            assert previous is not None
            assert previous.last_used_at == NOON + timedelta(seconds=2)


def test_a_use_that_can_not_be_compared_does_not_fail_the_request(
    api_key: ApiKey, secret: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(execute: Any, sql: str, *arguments: Any) -> Any:
        if '"first_used_at" >=' in sql:
            raise OperationalError
        return execute(sql, *arguments)

    with at(0):
        rotate(api_key)
    use(secret, 1)

    with connection.execute_wrapper(fail):
        use(secret, 2)

    assert f"could not read the use of the secret that replaced key {secret[4:16]}" in caplog.text


# ---- the number of statements ----


def statements(bearer: str) -> Counter[str]:
    """Return the kinds of statements of the second of two requests, and how many there are of each."""
    Api(bearer).get("/me")
    with CaptureQueriesContext(connection) as queries:
        assert Api(bearer).get("/me").status_code == 200
    return Counter(query["sql"].split()[0] for query in queries)


def test_after_a_rotation_a_request_takes_one_read_more_with_the_old_secret_and_none_with_the_new_one(
    api_key: ApiKey, secret: str
) -> None:
    before = statements(secret)

    new_secret = rotate(api_key)

    assert statements(new_secret) == before
    assert statements(secret) == before + Counter(SELECT=1)
