"""Each change of a workspace, a membership or a tier writes its audit event in its own transaction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from tests.helpers import BY_TEST, failing_events
from workspaces import quota
from workspaces.models import Actor, AuditEvent, LastOwner, Membership, Role, Tier, User, Via, Workspace

Change = Callable[[Workspace, Actor], object]


def membership(workspace: Workspace, name: str) -> Membership:
    return workspace.memberships.get(user__name=name)


def person(name: str) -> User:
    return User.objects.get(name=name)


def tier(name: str) -> Tier:
    return Tier.objects.get_or_create(
        name=name, defaults={"requests": 2000, "seconds": 900, "burst_requests": 400, "burst_seconds": 60}
    )[0]


def create_second_workspace(workspace: Workspace, by: Actor) -> Workspace:
    return Workspace.objects.create_with_owner(person("Outsider"), name="Second", slug="second", by=by)


SMALL = {"name": "small", "requests": 20, "seconds": 900, "burst_requests": 4, "burst_seconds": 60}

CHANGES: dict[str, Change] = {
    "suspend": lambda workspace, by: workspace.suspend("Unpaid", by=by),
    "resume": lambda workspace, by: workspace.resume("Paid", by=by),
    "change_tier": lambda workspace, by: workspace.change_tier(tier("large"), by=by),
    "add_member": lambda workspace, by: workspace.add_member(person("Outsider"), Role.ADMIN, by=by),
    "change_role": lambda workspace, by: membership(workspace, "Member").change_role(Role.OWNER, by=by),
    "leave": lambda workspace, by: membership(workspace, "Member").leave(by=by),
    "create_with_owner": create_second_workspace,
    "create_tier": lambda workspace, by: Tier.objects.create_tier(**SMALL, by=by),
}
# For each event: its action, the name of the person it is about, and its details.
SECOND = {"name": [None, "Second"], "slug": [None, "second"], "tier": [None, "standard"]}
EVENTS: dict[str, list[tuple[str, str, dict[str, Any]]]] = {
    "suspend": [("workspace.suspended", "", {"reason": "Unpaid"})],
    "resume": [("workspace.resumed", "", {"reason": "Paid"})],
    "change_tier": [("workspace.changed", "", {"changes": {"tier": ["standard", "large"]}})],
    "add_member": [("membership.created", "Outsider", {"role": "admin"})],
    "change_role": [("membership.changed", "Member", {"before": "member", "after": "owner"})],
    "leave": [("membership.deleted", "Member", {"role": "member"})],
    "create_with_owner": [
        ("workspace.created", "", {"changes": SECOND}),
        ("membership.created", "Outsider", {"role": "owner"}),
    ],
    "create_tier": [("tier.created", "", {"changes": {name: [None, value] for name, value in SMALL.items()}})],
}


def prepare(workspace: Workspace, name: str) -> None:
    """Prepare the workspace so that the change has an effect, and delete all events."""
    if name == "resume":
        CHANGES["suspend"](workspace, BY_TEST)
    tier("large")
    AuditEvent.objects.all().delete()


def state() -> list[Any]:
    """Return everything that these methods can change."""
    return [list(model._default_manager.order_by("pk").values()) for model in (Workspace, Membership, Tier)]


@pytest.fixture
def actor(operator: User) -> Actor:
    return Actor(Via.ADMIN, operator, "192.0.2.7")


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_writes_its_event_with_the_actor(
    workspace: Workspace, outsider: User, actor: Actor, name: str
) -> None:
    prepare(workspace, name)
    before = state()

    CHANGES[name](workspace, actor)

    events = list(AuditEvent.objects.order_by("id"))
    people = {user.pk: user.name for user in User.objects.all()}
    assert [(event.action, people.get(event.subject, ""), event.details) for event in events] == EVENTS[name]
    assert {(event.actor, event.via, event.client_ip) for event in events} == {(actor.user, "admin", "192.0.2.7")}
    changed = {"create_with_owner": Workspace.objects.filter(slug="second").first(), "create_tier": None}
    assert {event.workspace for event in events} == {changed.get(name, workspace)}
    assert state() != before


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_whose_event_cannot_be_written_is_rolled_back(
    workspace: Workspace, outsider: User, actor: Actor, name: str
) -> None:
    prepare(workspace, name)
    before = state()

    with failing_events(), pytest.raises(IntegrityError, match="no event"):
        CHANGES[name](workspace, actor)

    assert state() == before
    assert not AuditEvent.objects.exists()


def test_clearing_the_quota_writes_its_event(workspace: Workspace, actor: Actor) -> None:
    AuditEvent.objects.all().delete()

    quota.clear(workspace, by=actor)

    event = AuditEvent.objects.get()
    assert (event.action, event.workspace, event.subject) == ("workspace.quota_cleared", workspace, "")
    assert (event.actor, event.via, event.client_ip) == (actor.user, "admin", "192.0.2.7")


def test_the_quota_is_not_cleared_if_the_event_cannot_be_written(workspace: Workspace, actor: Actor) -> None:
    quota.admit(workspace.pk, workspace.tier)

    with failing_events(), pytest.raises(IntegrityError, match="no event"):
        quota.clear(workspace, by=actor)

    assert quota.status(workspace.pk, workspace.tier).windows[0].remaining == 199


REJECTED_WHEN_REPEATED = {
    "add_member": IntegrityError,
    "leave": Membership.DoesNotExist,
    "create_with_owner": IntegrityError,
    "create_tier": ValidationError,
}


@pytest.mark.parametrize("name", CHANGES)
def test_repeating_a_change_writes_no_event(workspace: Workspace, outsider: User, actor: Actor, name: str) -> None:
    prepare(workspace, name)
    CHANGES[name](workspace, actor)
    after, events = state(), list(AuditEvent.objects.all())

    if error := REJECTED_WHEN_REPEATED.get(name):
        with pytest.raises(error), transaction.atomic():
            CHANGES[name](workspace, actor)
    else:
        CHANGES[name](workspace, actor)

    assert state() == after
    assert list(AuditEvent.objects.all()) == events


@pytest.mark.parametrize("method", ["change_role", "leave"])
def test_an_attempt_to_remove_the_last_owner_writes_no_event(workspace: Workspace, actor: Actor, method: str) -> None:
    prepare(workspace, method)
    owner = membership(workspace, "Owner")

    with pytest.raises(LastOwner):
        owner.leave(by=actor) if method == "leave" else owner.change_role(Role.ADMIN, by=actor)

    assert not AuditEvent.objects.exists()


def test_leaving_twice_writes_one_event(workspace: Workspace, actor: Actor) -> None:
    """Two requests read the membership before either deletes it. The event contains the role in the database."""
    first, second = membership(workspace, "Member"), membership(workspace, "Member")
    membership(workspace, "Member").change_role(Role.ADMIN, by=actor)
    AuditEvent.objects.all().delete()

    first.leave(by=actor)
    with pytest.raises(Membership.DoesNotExist):
        second.leave(by=actor)
    with pytest.raises(Membership.DoesNotExist):
        second.change_role(Role.OWNER, by=actor)

    assert [event.details for event in AuditEvent.objects.all()] == [{"role": "admin"}]
