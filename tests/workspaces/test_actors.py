"""Who may make each change of keys, members and workspaces, checked in the transaction of the change."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from django.db import transaction
from django.db.models.signals import post_save
from django.test import Client

from apikeys.models import ApiKey
from onehorizon.errors import api_error_response, page_error_response
from tests.helpers import BY_TEST, commits, make_key, make_staff, make_user, make_workspace
from tests.processes import TIMEOUT, in_threads
from workspaces import quota
from workspaces.models import (
    COMMAND_ACTOR,
    Actor,
    AuditEvent,
    KeyManagersOnly,
    Membership,
    NotAllowed,
    Role,
    Tier,
    User,
    Via,
    Workspace,
)

SMALL = {"name": "small", "requests": 20, "seconds": 900, "burst_requests": 4, "burst_seconds": 60}

# 403 is NotAllowed, 404 Membership.DoesNotExist. The first six are on a page or use the API (see `actor`).
# fmt: off
ACTORS =            ["owner", "admin", "member", "outsider", "nobody", "inactive", "operator", "former", "command"]
TABLE = {
    "create key":     ["ok",    "ok",    "403",    "404",      "403",    "403",      "ok",       "403",    "ok"],
    "rename key":     ["ok",    "ok",    "403",    "404",      "403",    "403",      "ok",       "403",    "ok"],
    "revoke key":     ["ok",    "ok",    "403",    "404",      "403",    "403",      "ok",       "403",    "ok"],
    "add member":     ["ok",    "ok",    "403",    "404",      "403",    "403",      "ok",       "403",    "ok"],
    "add owner":      ["ok",    "403",   "403",    "404",      "403",    "403",      "ok",       "403",    "ok"],
    "make admin":     ["ok",    "ok",    "403",    "404",      "403",    "403",      "ok",       "403",    "ok"],
    "make owner":     ["ok",    "403",   "403",    "404",      "403",    "403",      "ok",       "403",    "ok"],
    "demote owner":   ["ok",    "403",   "403",    "404",      "403",    "403",      "ok",       "403",    "ok"],
    "remove member":  ["ok",    "ok",    "403",    "404",      "403",    "403",      "ok",       "403",    "ok"],
    "remove owner":   ["ok",    "403",   "403",    "404",      "403",    "403",      "ok",       "403",    "ok"],
    "suspend":        ["403",   "403",   "403",    "403",      "403",    "403",      "ok",       "403",    "ok"],
    "resume":         ["403",   "403",   "403",    "403",      "403",    "403",      "ok",       "403",    "ok"],
    "change tier":    ["403",   "403",   "403",    "403",      "403",    "403",      "ok",       "403",    "ok"],
    "clear quota of person": ["403", "403", "403", "403",    "403",    "403",      "ok",       "403",    "ok"],
    "end access":     ["403",   "403",   "403",    "403",      "403",    "403",      "ok",       "403",    "ok"],
    "revoke all keys": ["403",  "403",   "403",    "403",      "403",    "403",      "ok",       "403",    "ok"],
    "clear quota":    ["403",   "403",   "403",    "403",      "403",    "403",      "ok",       "403",    "ok"],
    "create tier":    ["403",   "403",   "403",    "403",      "403",    "403",      "ok",       "403",    "ok"],
    "create workspace": ["403", "403",   "403",    "403",      "403",    "403",      "ok",       "403",    "ok"],
}
# fmt: on


def of(workspace: Workspace, name: str) -> Membership:
    return workspace.memberships.get(user__name=name)


def new_tier() -> Tier:
    return Tier.objects.create(**SMALL | {"name": "large"})


def create_workspace(workspace: Workspace, by: Actor) -> object:
    return Workspace.objects.create_with_owner(make_user("guest"), name="New", slug="new", by=by)


CHANGES: dict[str, Callable[[Workspace, Actor], object]] = {
    "create key": lambda workspace, by: ApiKey.objects.create_key(workspace, description="New", by=by),
    "rename key": lambda workspace, by: workspace.api_keys.get().rename("New", by=by),
    "revoke key": lambda workspace, by: workspace.api_keys.get().revoke(by=by),
    "add member": lambda workspace, by: workspace.add_member(make_user("guest"), Role.MEMBER, by=by),
    "add owner": lambda workspace, by: workspace.add_member(make_user("guest"), Role.OWNER, by=by),
    "make admin": lambda workspace, by: of(workspace, "Colleague").change_role(Role.ADMIN, by=by),
    "make owner": lambda workspace, by: of(workspace, "Colleague").change_role(Role.OWNER, by=by),
    "demote owner": lambda workspace, by: of(workspace, "Second").change_role(Role.ADMIN, by=by),
    "remove member": lambda workspace, by: of(workspace, "Colleague").leave(by=by),
    "remove owner": lambda workspace, by: of(workspace, "Second").leave(by=by),
    "suspend": lambda workspace, by: workspace.suspend("Unpaid", by=by),
    "resume": lambda workspace, by: workspace.resume(by=by),
    "change tier": lambda workspace, by: workspace.change_tier(new_tier(), by=by),
    "clear quota": lambda workspace, by: quota.clear(workspace, by=by),
    "clear quota of person": lambda workspace, by: quota.clear(of(workspace, "Member").user, by=by),
    "end access": lambda workspace, by: of(workspace, "Member").user.end_access(by=by),
    "revoke all keys": lambda workspace, by: ApiKey.objects.revoke_all(workspace, by=by, reason="Leaked"),
    "create tier": lambda workspace, by: Tier.objects.create_tier(**SMALL, by=by),
    "create workspace": create_workspace,
}


@pytest.fixture
def staffed(workspace: Workspace) -> Workspace:
    """A workspace with a key, a second owner and a second member."""
    workspace.add_member(make_user("second"), Role.OWNER, by=BY_TEST)
    workspace.add_member(make_user("colleague"), Role.MEMBER, by=BY_TEST)
    make_key(workspace)
    return workspace


def actor(name: str, workspace: Workspace, via: Via) -> Actor:
    match name:
        case "command":
            return COMMAND_ACTOR
        case "nobody":
            return Actor(via)
        case "operator":
            return Actor(Via.ADMIN, make_staff("operator", "operators"))
        case "former":  # an owner who was an operator when the request began
            return Actor(Via.ADMIN, of(workspace, "Owner").user)
        case "inactive":
            user = of(workspace, "Admin").user
            User.objects.filter(pk=user.pk).update(is_active=False)
            return Actor(via, user)
        case "outsider":
            return Actor(via, make_user("outsider"))
    return Actor(via, of(workspace, name.capitalize()).user)


def attempt(change: Callable[[], object]) -> str:
    try:
        with transaction.atomic():
            change()
    except NotAllowed:
        return "403"
    except Membership.DoesNotExist:
        return "404"
    return "ok"


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("via", [Via.PAGE, Via.API])
def test_each_actor_can_make_the_expected_changes(staffed: Workspace, name: str, via: Via) -> None:
    outcomes = []
    for who in ACTORS:
        with transaction.atomic():
            if name == "resume":
                staffed.suspend("Unpaid", by=BY_TEST)
            by = actor(who, staffed, via)
            events = AuditEvent.objects.count()
            outcomes.append(attempt(partial(CHANGES[name], staffed, by)))
            assert (AuditEvent.objects.count() > events) is (outcomes[-1] == "ok")
            transaction.set_rollback(True)

    assert dict(zip(ACTORS, outcomes, strict=True)) == dict(zip(ACTORS, TABLE[name], strict=True))


@pytest.mark.parametrize("name", TABLE)
def test_an_operator_who_runs_a_command_must_be_active_staff_when_the_change_is_made(
    staffed: Workspace, name: str
) -> None:
    if name == "resume":
        staffed.suspend("Unpaid", by=BY_TEST)
    operator, former = make_staff("operator"), of(staffed, "Owner").user

    assert attempt(partial(CHANGES[name], staffed, Actor(Via.COMMAND, former))) == "403"
    assert attempt(partial(CHANGES[name], staffed, Actor(Via.COMMAND, operator))) == "ok"
    assert AuditEvent.objects.latest("pk").actor == operator


@pytest.mark.parametrize("name", ["owner", "admin", "member"])
def test_everyone_can_leave(staffed: Workspace, name: str) -> None:
    of(staffed, name.capitalize()).leave(by=actor(name, staffed, Via.PAGE))

    assert not staffed.memberships.filter(user__name=name.capitalize()).exists()


def test_an_inactive_person_can_not_leave(staffed: Workspace) -> None:
    with pytest.raises(NotAllowed):
        of(staffed, "Admin").leave(by=actor("inactive", staffed, Via.PAGE))


def test_a_change_that_is_not_allowed_is_403_in_the_api_and_on_pages(client: Client) -> None:
    request: Any = client.get("/sign-in/").wsgi_request
    page = page_error_response(KeyManagersOnly(), request)

    assert page is not None
    assert (page.status_code, b"permission" in page.content) == (403, True)
    assert api_error_response(KeyManagersOnly(), request).content == (
        b'{"code":403,"message":"Only owners and admins of the workspace can manage its API keys."}'
    )


def test_an_operator_who_lost_access_during_the_request_changes_nothing(
    admin_client: Client, operator: User, member: User
) -> None:
    """The operator loses access after the request was authorized and before the event is written."""

    def end_access(instance: User, **_: Any) -> None:
        User.objects.filter(pk=operator.pk).update(is_staff=False)

    post_save.connect(end_access, User)
    try:
        response = admin_client.post(
            f"/admin/workspaces/user/{member.pk}/change/",
            {"email": member.email, "name": "Renamed", "is_active": "on"},
        )
    finally:
        post_save.disconnect(end_access, User)

    assert response.status_code == 403
    assert not User.objects.filter(name="Renamed").exists()


# ---- at the same moment ----

Race = Callable[[Workspace], object]


def demote(workspace: Workspace) -> None:
    of(workspace, "Admin").change_role(Role.MEMBER, by=BY_TEST)


def remove(workspace: Workspace) -> None:
    of(workspace, "Admin").leave(by=BY_TEST)


def deactivate(workspace: Workspace) -> None:
    User.objects.filter(name="Admin").update(is_active=False)


@commits
@pytest.mark.parametrize(
    ("end", "name"),
    [
        (demote, "create key"),
        (remove, "create key"),
        (deactivate, "create key"),
        (demote, "rename key"),
        (demote, "revoke key"),
        (demote, "add member"),
        (demote, "make admin"),
    ],
)
def test_a_change_waits_for_a_concurrent_loss_of_the_role_and_fails(end: Race, name: str) -> None:
    workspace = make_workspace(make_user("owner"), admin=make_user("admin"))
    workspace.add_member(make_user("colleague"), Role.MEMBER, by=BY_TEST)
    make_key(workspace)
    user = of(workspace, "Admin").user
    by = Actor(Via.API, user)
    ended, begun = threading.Event(), threading.Event()
    events = AuditEvent.objects.exclude(subject=user.pk).count()

    def lose_the_role() -> str:
        with transaction.atomic():
            end(workspace)
            ended.set()
            assert begun.wait(TIMEOUT)
        return "ended"

    def change() -> str:
        assert ended.wait(TIMEOUT)
        begun.set()
        return attempt(partial(CHANGES[name], workspace, by))

    outcomes = in_threads(lose_the_role, change)

    assert outcomes == ["ended", "404" if end is remove else "403"]
    assert AuditEvent.objects.exclude(subject=user.pk).count() == events
