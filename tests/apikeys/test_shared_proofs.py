"""A proof in the key's row spares other processes the Argon2 run, and is worth nothing without `SECRET_KEY`."""

from __future__ import annotations

import hashlib
import hmac
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apikeys import hashing, keys
from apikeys.models import ApiKey, StoredSecret
from core.logs import LineFormatter
from tests.apikeys.conftest import Argon2Runs
from tests.helpers import BY_TEST, Api, commits, make_key
from workspaces.models import Workspace

pytestmark = pytest.mark.django_db

NEW_KEY = "another secret key, of fifty characters or even more"


def stored_proof(api_key: ApiKey) -> bytes:
    proof = StoredSecret.objects.values_list("shared_proof", flat=True).get(api_key=api_key)
    return bytes(proof or b"")


def status_in_new_process(secret: str) -> int:
    """Return the status of a request in a process that has verified no key yet."""
    hashing.proofs.clear()
    return int(Api(secret).get("/me").status_code)


@pytest.fixture
def _no_proof(api_key: ApiKey, argon2_runs: Argon2Runs) -> None:
    """The key has no shared proof, as before this release, and Argon2 has not run yet."""
    StoredSecret.objects.update(shared_proof=None)
    argon2_runs.count = 0


# ---- what it saves ----


def test_a_new_key_needs_no_argon2_in_any_process(secret: str, argon2_runs: Argon2Runs) -> None:
    argon2_runs.count = 0

    assert [status_in_new_process(secret) for _ in range(3)] == [200] * 3
    assert argon2_runs.count == 0


@pytest.mark.usefixtures("_no_proof")
def test_the_first_process_saves_a_proof_and_the_others_neither_run_argon2_nor_write_it(
    api_key: ApiKey, secret: str, argon2_runs: Argon2Runs
) -> None:
    assert status_in_new_process(secret) == 200
    assert argon2_runs.count == 1
    assert len(stored_proof(api_key)) == 32

    with CaptureQueriesContext(connection) as captured:
        assert [status_in_new_process(secret) for _ in range(3)] == [200] * 3

    assert argon2_runs.count == 1
    assert not [query["sql"] for query in captured if "shared_proof" in query["sql"].partition(" SET ")[2]]


def test_an_upgraded_hash_gets_its_proof_in_the_same_statement(
    api_key: ApiKey, secret: str, argon2_runs: Argon2Runs, settings: Any
) -> None:
    before = stored_proof(api_key)
    settings.APIKEYS_ARGON2_TIME_COST = 2
    argon2_runs.count = 0

    assert [status_in_new_process(secret) for _ in range(3)] == [200] * 3

    assert argon2_runs.count == 1, "to hash"
    assert stored_proof(api_key) != before


# ---- what it proves ----


@pytest.mark.usefixtures("_no_proof")
def test_the_proof_of_another_hash_is_replaced(api_key: ApiKey, secret: str, argon2_runs: Argon2Runs) -> None:
    """The previous release replaces a hash without its proof."""
    assert status_in_new_process(secret) == 200
    before = stored_proof(api_key)
    StoredSecret.objects.update(hash=hashing.hash_secret(secret))
    argon2_runs.count = 0

    assert [status_in_new_process(secret) for _ in range(3)] == [200] * 3

    assert argon2_runs.count == 1
    assert stored_proof(api_key) != before


@pytest.mark.parametrize("proof", [b"", bytes(32), b"x" * 31, b"x" * 33], ids=["empty", "zeros", "short", "long"])
def test_a_damaged_proof_is_replaced(proof: bytes, api_key: ApiKey, secret: str, argon2_runs: Argon2Runs) -> None:
    before = stored_proof(api_key)
    StoredSecret.objects.update(shared_proof=proof)
    argon2_runs.count = 0

    assert status_in_new_process(secret) == 200

    assert argon2_runs.count == 1
    assert stored_proof(api_key) == before


def test_wrong_secrets_match_no_proof_and_never_reach_argon2(api_key: ApiKey, argon2_runs: Argon2Runs) -> None:
    before = stored_proof(api_key)
    argon2_runs.count = 0

    for _ in range(20):
        body = f"one_{api_key.current_secret.key_id}_" + keys.generate().secret[17:-6]
        assert status_in_new_process(body + keys.checksum(body)) == 401

    assert argon2_runs.count == 0
    assert stored_proof(api_key) == before


def test_a_secret_with_the_same_fingerprint_does_not_match_the_proof(api_key: ApiKey, argon2_runs: Argon2Runs) -> None:
    body = f"one_{api_key.current_secret.key_id}_" + "A" * 43
    invented = body + keys.checksum(body)
    StoredSecret.objects.update(fingerprint=hashing.fingerprint(invented))
    before = stored_proof(api_key)

    assert [status_in_new_process(invented) for _ in range(2)] == [401] * 2
    assert stored_proof(api_key) == before


def test_a_proof_is_worth_nothing_in_another_keys_row(
    api_key: ApiKey, secret: str, workspace: Workspace, argon2_runs: Argon2Runs
) -> None:
    other_key, other_secret = make_key(workspace, "Other")
    other = StoredSecret.objects.filter(api_key=other_key)
    own_proof = stored_proof(other_key)

    other.update(shared_proof=stored_proof(api_key))
    argon2_runs.count = 0
    assert status_in_new_process(other_secret) == 200
    assert argon2_runs.count == 1
    assert stored_proof(other_key) == own_proof

    # With the hash and the fingerprint too, a bearer string must still have the key id of the row that it was made for.
    other.update(
        hash=api_key.current_secret.hash,
        fingerprint=api_key.current_secret.fingerprint,
        shared_proof=stored_proof(api_key),
    )
    body = f"one_{other_key.current_secret.key_id}_{secret[17:-6]}"
    assert status_in_new_process(other_secret) == 401
    assert status_in_new_process(body + keys.checksum(body)) == 401
    assert status_in_new_process(secret) == 200


@pytest.mark.parametrize("state", ["revoked", "expired", "suspended"])
def test_a_proof_admits_no_key_that_is_revoked_expired_or_suspended(
    state: str, api_key: ApiKey, secret: str, workspace: Workspace, argon2_runs: Argon2Runs
) -> None:
    assert status_in_new_process(secret) == 200
    if state == "revoked":
        api_key.revoke(by=BY_TEST)
    elif state == "expired":
        ApiKey.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    else:
        workspace.suspend("Unpaid", by=BY_TEST)
    argon2_runs.count = 0

    assert status_in_new_process(secret) == 401
    assert argon2_runs.count == 0


# ---- the secret key ----


def test_a_new_secret_key_costs_one_argon2_run(
    api_key: ApiKey, secret: str, argon2_runs: Argon2Runs, settings: Any
) -> None:
    before = stored_proof(api_key)
    settings.SECRET_KEY = NEW_KEY
    argon2_runs.count = 0

    assert [status_in_new_process(secret) for _ in range(3)] == [200] * 3

    assert argon2_runs.count == 1
    assert stored_proof(api_key) != before


def test_with_the_old_secret_key_as_a_fallback_proofs_are_accepted_and_renewed(
    api_key: ApiKey, secret: str, argon2_runs: Argon2Runs, settings: Any
) -> None:
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = NEW_KEY, ["an older one", settings.SECRET_KEY]
    argon2_runs.count = 0
    assert status_in_new_process(secret) == 200

    settings.SECRET_KEY_FALLBACKS = []

    assert status_in_new_process(secret) == 200
    assert argon2_runs.count == 0


def test_a_copy_of_the_database_is_not_enough_to_check_a_secret_against_its_proof(
    api_key: ApiKey, secret: str, settings: Any
) -> None:
    """Whoever has a copy knows the whole row, and here even the secret."""
    proof, known = (
        stored_proof(api_key),
        [secret.encode(), api_key.current_secret.hash.encode(), bytes(api_key.current_secret.fingerprint), b""],
    )

    digests = [hashlib.sha256(first + second).digest() for first in known for second in known]
    digests += [hmac.digest(key, text, "sha256") for key in known for text in known]
    assert proof not in digests
    settings.SECRET_KEY = NEW_KEY
    assert proof != hashing.shared_proof(secret, api_key.current_secret.hash)


# ---- failures ----


@pytest.mark.usefixtures("_no_proof")
def test_a_proof_that_can_not_be_saved_does_not_fail_the_request(
    api_key: ApiKey, secret: str, caplog: pytest.LogCaptureFixture
) -> None:
    def break_update(execute: Any, sql: str, *arguments: Any) -> Any:
        return execute(sql.replace('SET "shared_proof"', 'SET "no_such_column"'), *arguments)

    with connection.execute_wrapper(break_update):
        assert status_in_new_process(secret) == 200

    assert stored_proof(api_key) == b""
    assert f"could not save the shared proof of key {api_key.current_secret.key_id}" in caplog.text
    logged = "\n".join(map(LineFormatter().format, caplog.records))
    assert "no_such_column" in logged
    assert hashing.shared_proof(secret, api_key.current_secret.hash).hex() not in logged


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="SQLite has no row locks")
@commits
@pytest.mark.parametrize("locked", [ApiKey, StoredSecret])
def test_a_request_does_not_wait_for_a_locked_row_to_save_a_proof(
    locked: type[ApiKey] | type[StoredSecret], workspace: Workspace
) -> None:
    api_key, secret = make_key(workspace)
    StoredSecret.objects.update(shared_proof=None)

    def send_in_thread() -> int:
        try:
            return status_in_new_process(secret)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as threads, transaction.atomic():
        locked.objects.select_for_update().get()
        assert threads.submit(send_in_thread).result(20) == 200
    assert (stored_proof(api_key) == b"") == (locked is StoredSecret)
