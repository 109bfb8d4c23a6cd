"""Argon2 runs once per key without a shared proof, and at most once per processor at a time."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest
from argon2 import PasswordHasher, extract_parameters
from django.db import connection

from apikeys import hashing, keys
from apikeys.hashing import Proofs
from apikeys.models import ApiKey, StoredSecret
from core.logs import LineFormatter
from tests.apikeys.conftest import Argon2Runs
from tests.helpers import Api, make_token
from tests.processes import in_threads, wait_until
from workspaces.access import CredentialRejected
from workspaces.models import User, Workspace

PROCESSORS = os.cpu_count() or 1


def assert_rejected(secret: str, reason: str) -> None:
    with pytest.raises(CredentialRejected) as excinfo:
        StoredSecret.objects.authenticate(secret)
    assert excinfo.value.reason == reason


# ---- when Argon2 runs ----


@pytest.mark.django_db
def test_a_warm_request_does_not_run_argon2(api: Api, argon2_runs: Argon2Runs) -> None:
    StoredSecret.objects.update(shared_proof=None)
    assert api.get("/me").status_code == 200
    assert argon2_runs.count == 1

    assert [api.get("/me").status_code for _ in range(10)] == [200] * 10
    assert argon2_runs.count == 1


@pytest.mark.django_db
def test_repeating_a_creation_does_not_run_argon2(admin: User, workspace: Workspace, argon2_runs: Argon2Runs) -> None:
    api = Api(make_token(admin), **{"Idempotency-Key": "8e03978e"})

    statuses = [
        api.post("/workspaces/current/api-keys", {"description": description}).status_code
        for description in ("CI", "CI", "another")
    ]

    assert statuses == [201, 200, 422]
    assert argon2_runs.count == 1


@pytest.mark.django_db
def test_an_invented_secret_for_a_real_key_id_never_reaches_argon2(
    api_key: ApiKey, secret: str, argon2_runs: Argon2Runs
) -> None:
    for _ in range(50):
        body = f"one_{api_key.current_secret.key_id}_" + keys.generate().secret[17:-6]
        assert_rejected(body + keys.checksum(body), "wrong_secret")
    assert_rejected(keys.generate().secret, "unknown")
    assert_rejected(secret[:-1], "malformed")

    assert argon2_runs.count == 0
    assert len(hashing.proofs) == 0


@pytest.mark.django_db
def test_a_matching_fingerprint_alone_is_not_enough(api_key: ApiKey, secret: str, argon2_runs: Argon2Runs) -> None:
    StoredSecret.objects.update(hash=hashing.hash_secret(keys.generate().secret))

    assert_rejected(secret, "wrong_secret")
    assert_rejected(secret, "wrong_secret")
    assert len(hashing.proofs) == 0


@pytest.mark.django_db
@pytest.mark.parametrize("stored", ["", "!", "not a hash", "$argon2id$v=19$m=64,t=1,p=1$c2FsdA"])
def test_a_key_with_an_invalid_stored_hash_is_rejected(api: Api, api_key: ApiKey, stored: str) -> None:
    assert api.get("/me").status_code == 200

    StoredSecret.objects.update(hash=stored)

    assert api.get("/me").status_code == 401


@pytest.mark.django_db
def test_a_proof_is_valid_for_its_own_hash_only(api_key: ApiKey, secret: str, argon2_runs: Argon2Runs) -> None:
    assert StoredSecret.objects.authenticate(secret).api_key == api_key

    StoredSecret.objects.update(hash=hashing.hash_secret(secret))
    argon2_runs.count = 0
    assert StoredSecret.objects.authenticate(secret).api_key == api_key
    assert argon2_runs.count == 1

    StoredSecret.objects.update(hash=hashing.hash_secret(keys.generate().secret))
    assert_rejected(secret, "wrong_secret")


def test_many_first_uses_at_once_run_argon2_at_most_once_per_processor(argon2_runs: Argon2Runs) -> None:
    secret = keys.generate().secret
    stored = hashing.hash_secret(secret)
    argon2_runs.count, argon2_runs.extra_seconds = 0, 0.05

    outcomes = in_threads(*[lambda: hashing.verify(secret, stored)] * 30)

    assert outcomes == [True] * 30
    assert 1 <= argon2_runs.count <= PROCESSORS


def test_argon2_runs_at_most_once_per_processor_at_a_time(argon2_runs: Argon2Runs) -> None:
    secrets = [keys.generate().secret for _ in range(10)]
    hashes = {secret: hashing.hash_secret(secret) for secret in secrets}
    argon2_runs.count, argon2_runs.extra_seconds, argon2_runs.required_concurrency = 0, 0.02, PROCESSORS

    verifications = [lambda secret=secret: hashing.verify(secret, hashes[secret]) for secret in secrets]
    hashings = [lambda secret=secret: bool(hashing.hash_secret(secret)) for secret in secrets]
    outcomes = in_threads(*verifications, *hashings)

    assert outcomes == [True] * 20
    assert (argon2_runs.count, argon2_runs.max_concurrent) == (20, PROCESSORS)


def test_a_wrong_secret_leaves_no_proof_and_frees_its_slot(argon2_runs: Argon2Runs) -> None:
    secret = keys.generate().secret
    stored = hashing.hash_secret(secret)

    for _ in range(PROCESSORS * 3):
        assert not hashing.verify(keys.generate().secret, stored)

    assert len(hashing.proofs) == 0
    assert hashing.verify(secret, stored)
    assert len(hashing.proofs) == 1


# ---- when the parameters change ----


def stored_hash() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT hash FROM apikeys_storedsecret")
        return str(cursor.fetchone()[0])


@pytest.mark.django_db
def test_a_hash_is_upgraded_to_the_settings_parameters_when_its_key_is_used(
    api: Api, secret: str, settings: Any, argon2_runs: Argon2Runs
) -> None:
    assert api.get("/me").status_code == 200
    hashing.proofs.clear()  # as in a new process, which reads the new settings
    settings.APIKEYS_ARGON2_TIME_COST = 2
    argon2_runs.count = 0

    assert [api.get("/me").status_code for _ in range(5)] == [200] * 5

    assert extract_parameters(stored_hash()).time_cost == 2
    assert argon2_runs.count == 1  # to hash: the shared proof spares the run to verify
    assert PasswordHasher().verify(stored_hash(), secret)


@pytest.mark.django_db
def test_a_cold_process_verifies_an_old_hash_and_upgrades_it(
    api_key: ApiKey, secret: str, settings: Any, argon2_runs: Argon2Runs
) -> None:
    StoredSecret.objects.update(shared_proof=None)
    settings.APIKEYS_ARGON2_MEMORY_COST = 128

    assert [StoredSecret.objects.authenticate(secret).api_key for _ in range(3)] == [api_key] * 3

    assert extract_parameters(stored_hash()).memory_cost == 128
    assert argon2_runs.count == 2  # one to verify, one to hash


@pytest.mark.django_db
def test_an_upgraded_hash_works_in_a_process_with_the_old_parameters(
    api_key: ApiKey, secret: str, settings: Any
) -> None:
    assert StoredSecret.objects.authenticate(secret).api_key == api_key
    settings.APIKEYS_ARGON2_TIME_COST = 2
    assert StoredSecret.objects.authenticate(secret).api_key == api_key

    settings.APIKEYS_ARGON2_TIME_COST = 1

    assert StoredSecret.objects.authenticate(secret).api_key == api_key
    assert Api(secret).get("/me").status_code == 200


@pytest.mark.django_db
def test_the_second_of_two_upgrades_keeps_the_hash_of_the_first(secret: str, api_key: ApiKey, settings: Any) -> None:
    settings.APIKEYS_ARGON2_TIME_COST = 2
    first, second = StoredSecret.objects.get(), StoredSecret.objects.get()

    assert first.matches(secret)
    upgraded = stored_hash()

    assert second.matches(secret)
    assert stored_hash() == upgraded
    assert StoredSecret.objects.get().matches(secret)


@pytest.mark.django_db
def test_a_hash_that_can_not_be_upgraded_does_not_fail_the_request(
    api: Api, api_key: ApiKey, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def break_update(execute: Any, sql: str, *arguments: Any) -> Any:
        return execute(sql.replace('SET "hash"', 'SET "no_such_column"'), *arguments)

    before = stored_hash()
    settings.APIKEYS_ARGON2_TIME_COST = 2

    with connection.execute_wrapper(break_update):
        assert api.get("/me").status_code == 200

    assert stored_hash() == before
    assert f"could not save the rehash of key {api_key.current_secret.key_id}" in caplog.text
    logged = "\n".join(map(LineFormatter().format, caplog.records))
    assert "no_such_column" in logged
    assert "$v=19" not in logged


# ---- proofs ----


def test_the_number_of_proofs_is_bounded_and_the_least_recently_used_is_evicted() -> None:
    proofs = Proofs(size=3, seconds=60)
    for secret in ("a", "b", "c"):
        proofs.add(secret, "hash")
    assert proofs.has("a", "hash")

    proofs.add("d", "hash")

    assert len(proofs) == 3
    assert [proofs.has(secret, "hash") for secret in "abcd"] == [True, False, True, True]


def test_a_proof_expires_however_often_it_was_used() -> None:
    proofs = Proofs(size=3, seconds=0.5)
    added_at = time.monotonic()
    proofs.add("secret", "hash")

    wait_until(lambda: not proofs.has("secret", "hash"))

    assert time.monotonic() - added_at >= 0.5
    assert len(proofs) == 0


def test_a_proof_belongs_to_one_secret_and_one_hash() -> None:
    proofs = Proofs(size=3, seconds=60)
    proofs.add("secret", "hash")

    assert proofs.has("secret", "hash")
    assert not proofs.has("secret", "another hash")
    assert not proofs.has("another secret", "hash")
    assert not proofs.has("secret", "")
    proofs.clear()
    assert not proofs.has("secret", "hash")


def test_a_proof_is_useless_in_another_process_and_reveals_nothing() -> None:
    first, second = Proofs(size=3, seconds=60), Proofs(size=3, seconds=60)
    secret = keys.generate().secret
    first.add(secret, "hash")
    second.add(secret, "hash")

    assert set(first._hashes).isdisjoint(second._hashes)
    assert secret not in repr(vars(first))


def test_proofs_stay_bounded_and_correct_with_many_threads() -> None:
    proofs = Proofs(size=50, seconds=60)

    def add_and_read(number: int) -> int:
        errors = 0
        for turn in range(400):
            secret = f"{(number * 31 + turn) % 120}"
            proofs.add(secret, f"hash of {secret}")
            errors += proofs.has(secret, "another hash") or len(proofs) > 50
        return errors

    assert in_threads(*[lambda number=number: add_and_read(number) for number in range(8)]) == [0] * 8
    assert len(proofs) == 50


@pytest.mark.django_db
def test_a_hash_that_another_process_upgraded_is_verified_again(
    api: Api, secret: str, api_key: ApiKey, argon2_runs: Argon2Runs
) -> None:
    api.get("/me")
    StoredSecret.objects.filter(api_key=api_key.pk).update(hash=hashing.hash_secret(secret))
    argon2_runs.count = 0

    assert [api.get("/me").status_code for _ in range(3)] == [200, 200, 200]
    assert argon2_runs.count == 1
