"""A workspace has at most 20 active keys, however many threads create them at once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from apikeys.models import ActiveKeyLimitReached, ApiKey
from tests.helpers import BY_TEST, commits, make_key, make_user, make_workspace
from tests.processes import in_threads
from workspaces.models import AuditEvent, Workspace


def fill(workspace: Workspace, count: int = 20) -> list[ApiKey]:
    return [make_key(workspace, f"Service {number}")[0] for number in range(count)]


@pytest.mark.django_db
def test_the_twenty_first_active_key_is_rejected_and_writes_nothing(workspace: Workspace) -> None:
    fill(workspace)
    events = AuditEvent.objects.count()

    with pytest.raises(ActiveKeyLimitReached, match=r"has 20 active API keys, which is the limit: revoke one first"):
        make_key(workspace)

    assert workspace.api_keys.count() == 20
    assert AuditEvent.objects.count() == events


@pytest.mark.django_db
def test_another_workspace_is_not_affected(workspace: Workspace, elsewhere: Workspace) -> None:
    fill(workspace)

    make_key(elsewhere)

    assert elsewhere.api_keys.active().count() == 1


@pytest.mark.django_db
def test_the_cap_counts_the_keys_of_the_workspace_that_gets_the_key(workspace: Workspace, elsewhere: Workspace) -> None:
    fill(workspace)

    with pytest.raises(ActiveKeyLimitReached):
        elsewhere.api_keys.create_key(workspace, description="One more", by=BY_TEST)


@pytest.mark.django_db
def test_revoking_a_key_allows_one_new_key(workspace: Workspace) -> None:
    fill(workspace)[7].revoke(by=BY_TEST)

    make_key(workspace)

    with pytest.raises(ActiveKeyLimitReached):
        make_key(workspace)


@pytest.mark.django_db
def test_an_expired_key_allows_one_new_key(workspace: Workspace) -> None:
    ApiKey.objects.filter(pk=fill(workspace)[7].pk).update(expires_at=timezone.now())

    make_key(workspace)

    with pytest.raises(ActiveKeyLimitReached):
        make_key(workspace)


@pytest.mark.django_db
def test_a_key_that_has_not_expired_yet_counts(workspace: Workspace) -> None:
    fill(workspace, 19)
    make_key(workspace, expires_at=timezone.now() + timedelta(minutes=1))

    with pytest.raises(ActiveKeyLimitReached):
        make_key(workspace)


@pytest.mark.django_db
def test_the_cap_is_read_from_the_settings_each_time(workspace: Workspace, settings: Any) -> None:
    settings.APIKEYS_MAX_ACTIVE = 3
    fill(workspace, 3)
    with pytest.raises(ActiveKeyLimitReached, match="3 active API keys"):
        make_key(workspace)

    settings.APIKEYS_MAX_ACTIVE = 4
    make_key(workspace)

    settings.APIKEYS_MAX_ACTIVE = 2
    with pytest.raises(ActiveKeyLimitReached, match="2 active API keys"):
        make_key(workspace)
    assert workspace.api_keys.active().count() == 4


@pytest.fixture
def nearly_full(transactional_db: None) -> Workspace:
    workspace = make_workspace(make_user("owner"))
    fill(workspace, 19)
    return workspace


@commits
def test_one_of_fifty_threads_creates_the_twentieth_key(nearly_full: Workspace) -> None:
    outcomes = in_threads(*[lambda: make_key(nearly_full)] * 50)

    rejected = [outcome for outcome in outcomes if isinstance(outcome, ActiveKeyLimitReached)]
    assert len(rejected) == 49, outcomes
    assert nearly_full.api_keys.active().count() == 20
    assert AuditEvent.objects.filter(action="api_key.created").count() == 20
