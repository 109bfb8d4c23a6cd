"""A workspace always has an owner."""

from __future__ import annotations

from functools import partial

import pytest
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError

from tests.helpers import BY_TEST, commits, make_user, make_workspace
from tests.processes import in_threads
from workspaces.models import LastOwner, Membership, Role, User, Workspace


def membership(workspace: Workspace, user: User) -> Membership:
    return workspace.memberships.get(user=user)


@pytest.mark.django_db
@pytest.mark.parametrize("role", [Role.ADMIN, Role.MEMBER])
def test_the_last_owner_can_not_be_demoted(workspace: Workspace, owner: User, role: Role) -> None:
    with pytest.raises(LastOwner, match="A workspace needs an owner"):
        membership(workspace, owner).change_role(role, by=BY_TEST)

    assert membership(workspace, owner).role == Role.OWNER


@pytest.mark.django_db
def test_the_last_owner_can_not_leave(workspace: Workspace, owner: User) -> None:
    with pytest.raises(LastOwner):
        membership(workspace, owner).leave(by=BY_TEST)

    assert membership(workspace, owner).role == Role.OWNER


@pytest.mark.django_db
def test_an_owner_of_another_workspace_does_not_count(workspace: Workspace, owner: User) -> None:
    make_workspace(make_user("other"), slug="other")

    with pytest.raises(LastOwner):
        membership(workspace, owner).leave(by=BY_TEST)


@pytest.mark.django_db
def test_an_owner_can_leave_if_there_is_another(workspace: Workspace, owner: User, admin: User) -> None:
    membership(workspace, admin).change_role(Role.OWNER, by=BY_TEST)

    membership(workspace, owner).leave(by=BY_TEST)

    assert not workspace.memberships.filter(user=owner).exists()
    with pytest.raises(LastOwner):
        membership(workspace, admin).leave(by=BY_TEST)


@pytest.mark.django_db
def test_changing_the_last_owners_role_to_owner_changes_nothing(workspace: Workspace, owner: User) -> None:
    membership(workspace, owner).change_role(Role.OWNER, by=BY_TEST)

    assert membership(workspace, owner).role == Role.OWNER


@pytest.mark.django_db
def test_admins_and_members_can_join_and_leave(workspace: Workspace, owner: User, admin: User, member: User) -> None:
    membership(workspace, admin).change_role(Role.MEMBER, by=BY_TEST)
    membership(workspace, member).change_role(Role.ADMIN, by=BY_TEST)
    assert (membership(workspace, admin).role, membership(workspace, member).role) == ("member", "admin")

    membership(workspace, admin).leave(by=BY_TEST)
    membership(workspace, member).leave(by=BY_TEST)

    assert list(workspace.members.all()) == [owner]


@pytest.mark.django_db
@pytest.mark.parametrize(("role", "manages"), [(Role.OWNER, True), (Role.ADMIN, True), (Role.MEMBER, False)])
def test_owners_and_admins_manage_keys(role: Role, manages: bool) -> None:
    assert Membership(role=role).can_manage_keys is manages


@pytest.mark.django_db
def test_a_member_can_not_be_deleted_before_leaving(workspace: Workspace, owner: User, member: User) -> None:
    for user in (owner, member):
        with pytest.raises(ProtectedError):
            user.delete()

    membership(workspace, member).leave(by=BY_TEST)
    member.delete()

    assert workspace.members.filter(pk=owner.pk).exists()
    assert not User.objects.filter(pk=member.pk).exists()


@pytest.mark.django_db
def test_a_person_has_one_membership_in_a_workspace(workspace: Workspace, member: User) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        workspace.add_member(member, Role.ADMIN, by=BY_TEST)

    assert membership(workspace, member).role == Role.MEMBER


@pytest.fixture
def owned_by_two(transactional_db: None) -> Workspace:
    workspace = make_workspace(make_user("owner"))
    workspace.add_member(make_user("second"), Role.OWNER, by=BY_TEST)
    return workspace


@commits
@pytest.mark.parametrize("attempt", range(3))
def test_one_of_two_owners_stays_when_both_leave_at_once(owned_by_two: Workspace, attempt: int) -> None:
    outcomes = in_threads(*[partial(owner.leave, by=BY_TEST) for owner in owned_by_two.memberships.all()])

    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["LastOwner", "NoneType"]
    assert owned_by_two.memberships.get().role == Role.OWNER


@commits
def test_one_owner_stays_when_one_leaves_and_the_other_is_demoted_at_once(owned_by_two: Workspace) -> None:
    first, second = owned_by_two.memberships.all()

    outcomes = in_threads(partial(first.leave, by=BY_TEST), partial(second.change_role, Role.MEMBER, by=BY_TEST))

    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["LastOwner", "NoneType"]
    assert owned_by_two.memberships.filter(role=Role.OWNER).count() == 1
