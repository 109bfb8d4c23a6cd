"""Limits and revocations hold across processes that write to one database at the same moment."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from apikeys.models import ApiKey, StoredSecret
from tests.apikeys.test_create_and_revoke import events_of
from tests.apikeys.test_quota_statement import new_subject, stored
from tests.helpers import BY_TEST, commits, make_key, make_user, make_workspace, stretch_windows
from tests.processes import fetch, in_processes, server
from workspaces.models import Role, Workspace


@pytest.fixture
def workspace_with_19_keys(transactional_db: None) -> Workspace:
    workspace = make_workspace(make_user("owner"))
    for number in range(19):
        make_key(workspace, f"Service {number}")
    return workspace


@pytest.fixture
def committed_key(transactional_db: None) -> tuple[ApiKey, str]:
    return make_key(make_workspace(make_user("owner")))


@pytest.fixture
def owned_by_two(transactional_db: None) -> Workspace:
    workspace = make_workspace(make_user("owner"))
    workspace.add_member(make_user("second"), Role.OWNER, by=BY_TEST)
    return workspace


@commits
def test_one_of_fifty_threads_in_five_processes_creates_the_twentieth_key(workspace_with_19_keys: Workspace) -> None:
    outputs = in_processes(
        5,
        f"""
        from tests.helpers import make_key
        from tests.processes import in_threads
        from workspaces.models import Workspace
        workspace = Workspace.objects.get(pk={workspace_with_19_keys.pk!r})
        for outcome in in_threads(*[lambda: make_key(workspace)] * 10):
            print(type(outcome).__name__)
        """,
    )

    outcomes = "".join(outputs).split()
    assert sorted(outcomes) == ["ActiveKeyLimitReached"] * 49 + ["tuple"]
    assert workspace_with_19_keys.api_keys.active().count() == 20


@commits
def test_processes_share_proofs_so_only_the_first_ones_run_argon2(transactional_db: None) -> None:
    workspace = make_workspace(make_user("owner"))
    secrets = [make_key(workspace, f"Service {number}")[1] for number in range(4)]
    StoredSecret.objects.update(shared_proof=None)
    *used, unused = secrets
    assert all(map(StoredSecret.objects.authenticate, used))

    outputs = in_processes(
        3,
        f"""
        from argon2 import PasswordHasher
        from apikeys.models import StoredSecret
        runs, verify = [], PasswordHasher.verify
        PasswordHasher.verify = lambda *arguments: runs.append(1) or verify(*arguments)
        assert all(map(StoredSecret.objects.authenticate, {used}))
        before = len(runs)
        assert StoredSecret.objects.authenticate({unused!r})
        print(before, len(runs))
        """,
    )

    before, after = zip(*(map(int, output.split()) for output in outputs), strict=True)
    assert before == (0, 0, 0)
    assert 1 <= sum(after) <= 3, "concurrent first requests may each run Argon2"


@commits
def test_one_of_three_processes_revokes_the_key(committed_key: tuple[ApiKey, str]) -> None:
    api_key, _ = committed_key

    outputs = in_processes(
        3,
        f"""
        from apikeys.models import ApiKey
        from tests.helpers import BY_TEST
        print(ApiKey.objects.get(pk={api_key.pk!r}).revoke(by=BY_TEST))
        """,
    )

    assert sorted(outputs) == ["False\n"] * 2 + ["True\n"]
    assert [action for action, _ in events_of(api_key)] == ["api_key.created", "api_key.revoked"]


@commits
def test_a_revocation_applies_in_every_process_from_the_next_request_on(
    committed_key: tuple[ApiKey, str], tmp_path: Path
) -> None:
    api_key, secret = committed_key
    with server(tmp_path / "server.log", workers=2) as site:
        # Each request opens a connection. The probability that one worker gets all 30 is 1 in 2²⁹.
        before = [fetch(f"{site}/api/v1/me", secret)[0] for _ in range(30)]
        api_key.revoke(by=BY_TEST)
        after = [fetch(f"{site}/api/v1/me", secret)[0] for _ in range(30)]

    assert (before, after) == ([200] * 30, [401] * 30)


@commits
def test_when_two_owners_leave_at_once_in_two_processes_one_stays(owned_by_two: Workspace) -> None:
    memberships = [membership.pk for membership in owned_by_two.memberships.all()]
    outputs = in_processes(
        2,
        f"""
        from workspaces.models import COMMAND_ACTOR, LastOwner, Membership
        try:
            Membership.objects.get(pk={memberships!r}[number]).leave(by=COMMAND_ACTOR)
            print("left")
        except LastOwner:
            print("stays")
        """,
    )

    assert sorted(outputs) == ["left\n", "stays\n"]
    assert owned_by_two.memberships.get().role == Role.OWNER


@commits
def test_eight_processes_are_admitted_exactly_forty_times() -> None:
    stretch_windows()
    subject = new_subject()

    outputs = in_processes(
        8,
        f"""
        from workspaces import quota
        from workspaces.models import Tier
        standard = Tier.objects.get(name="standard")
        print(sum(quota.admit({subject!r}, standard).admitted for _ in range(15)))
        """,
    )

    assert sum(map(int, outputs)) == 40
    times = stored(subject)
    assert len(times) == 40
    assert list(times) == sorted(times, reverse=True)


@pytest.fixture
def keys_of_one_workspace(transactional_db: None) -> list[tuple[ApiKey, str]]:
    workspace = make_workspace(make_user("owner"))
    return [make_key(workspace, f"Service {number}") for number in range(4)]


@commits
def test_a_server_with_two_workers_admits_exactly_forty_and_never_logs_a_locked_database(
    keys_of_one_workspace: list[tuple[ApiKey, str]], tmp_path: Path
) -> None:
    stretch_windows()
    log = tmp_path / "server.log"
    secrets = [secret for _, secret in keys_of_one_workspace] * 30
    with server(log, workers=2) as site, ThreadPoolExecutor(8) as clients:
        responses = list(clients.map(lambda secret: fetch(f"{site}/api/v1/me", secret), secrets))

    statuses = [status for status, _, _ in responses]
    assert (statuses.count(200), statuses.count(429)) == (40, 80)
    assert sorted(
        int(headers["ratelimit"].partition('"burst";r=')[2].partition(";")[0])
        for status, headers, _ in responses
        if status == 200
    ) == list(range(40))
    assert "locked" not in log.read_text()
    assert "ERROR" not in log.read_text()
