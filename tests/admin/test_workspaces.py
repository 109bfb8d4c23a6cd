"""Workspaces: their members, tier, suspension and quota."""

import re
from collections.abc import Mapping
from typing import Any

import pytest
from django.db.models.signals import pre_save
from django.test import Client

from core.admin import change_url, changelist_url
from tests.admin.pages import action_url, add_url
from tests.helpers import BY_TEST, Api, make_key, make_user, make_workspace
from workspaces import quota
from workspaces.models import AuditEvent, Membership, Role, Tier, User, Workspace


def form_data(workspace: Workspace, roles: Mapping[User, str | None], **fields: str) -> dict[str, str]:
    """Return the data of the change form. `roles` adds or changes members; a role of None removes one."""
    memberships = {membership.user: membership for membership in workspace.memberships.all()}
    data: dict[str, str] = {"name": workspace.name, "slug": workspace.slug, "tier": workspace.tier.pk, **fields}
    rows = [*memberships, *(user for user in roles if user not in memberships)]
    for index, user in enumerate(rows):
        row: dict[str, str] = {"user": user.pk}
        if membership := memberships.get(user):
            row |= {"id": membership.pk, "workspace": workspace.pk, "role": membership.role}
        if role := roles.get(user):
            row["role"] = role
        elif user in roles:
            row["DELETE"] = "on"
        data |= {f"memberships-{index}-{name}": value for name, value in row.items()}
    return data | {"memberships-TOTAL_FORMS": str(len(rows)), "memberships-INITIAL_FORMS": str(len(memberships))}


def roles_in(workspace: Workspace) -> dict[str, str]:
    return dict(workspace.memberships.values_list("user__name", "role"))


def latest_event(action: str) -> AuditEvent:
    return AuditEvent.objects.filter(action=action).latest("id")


# ---- members ----


def test_a_member_is_added_promoted_and_removed_with_an_event_for_each(
    admin_client: Client, operator: User, workspace: Workspace, admin: User, member: User, outsider: User
) -> None:
    admin_client.post(change_url(workspace), form_data(workspace, {member: "admin", admin: None, outsider: "member"}))

    assert roles_in(workspace) == {"Owner": "owner", "Member": "admin", "Outsider": "member"}
    events = AuditEvent.objects.filter(action__startswith="membership", via="admin").order_by("id")
    assert [(event.action, event.subject, event.details, event.sentence) for event in events] == [
        ("membership.created", outsider.pk, {"role": "member"}, "Joined as member"),
        ("membership.changed", member.pk, {"before": "member", "after": "admin"}, "Role changed from member to admin"),
        ("membership.deleted", admin.pk, {"role": "admin"}, "Removed as admin"),
    ]
    assert {(event.workspace, event.actor, event.via) for event in events} == {(workspace, operator, "admin")}


@pytest.mark.parametrize("role", [None, "admin", "member"])
def test_removing_the_last_owner_is_rejected_and_the_form_keeps_its_values(
    admin_client: Client, workspace: Workspace, owner: User, member: User, role: str | None
) -> None:
    before = roles_in(workspace)

    response = admin_client.post(
        change_url(workspace), form_data(workspace, {owner: role, member: "admin"}, name="Acme & Sons")
    )

    page = response.content.decode()
    assert "A workspace needs an owner. Make another member an owner first." in page
    assert 'value="Acme &amp; Sons"' in page
    assert re.search(r'<option value="admin" selected>Admin</option>', page)
    assert roles_in(workspace) == before
    assert not AuditEvent.objects.filter(via="admin").exists()


def test_ownership_is_transferred_in_one_request(
    admin_client: Client, workspace: Workspace, owner: User, member: User
) -> None:
    admin_client.post(change_url(workspace), form_data(workspace, {owner: None, member: "owner"}))

    assert roles_in(workspace) == {"Admin": "admin", "Member": "owner"}


def test_the_user_of_a_membership_cannot_be_changed(
    admin_client: Client, workspace: Workspace, owner: User, outsider: User
) -> None:
    data = form_data(workspace, {})
    data["memberships-0-user"] = outsider.pk

    admin_client.post(change_url(workspace), data)

    assert not Membership.objects.filter(workspace=workspace, user=outsider).exists()


def post_new_workspace(admin_client: Client, owner: User | None) -> Any:
    data = {"name": "New", "slug": "new", "tier": "standard", "memberships-INITIAL_FORMS": "0"}
    if owner:
        data |= {"memberships-0-user": owner.pk, "memberships-0-role": "owner"}
    return admin_client.post(add_url(Workspace), data | {"memberships-TOTAL_FORMS": "1" if owner else "0"})


def test_a_new_workspace_has_an_owner(admin_client: Client, owner: User) -> None:
    rejected = post_new_workspace(admin_client, None)
    accepted = post_new_workspace(admin_client, owner)

    assert "A workspace needs an owner" in rejected.content.decode()
    assert accepted.status_code == 302
    assert roles_in(Workspace.objects.get(slug="new")) == {"Owner": "owner"}
    assert latest_event("workspace.created").details == {"changes": {"name": [None, "New"], "slug": [None, "new"]}}


# ---- tier and quota ----


def test_a_workspace_moves_to_another_tier_with_an_event(
    admin_client: Client, operator: User, workspace: Workspace
) -> None:
    Tier.objects.create(name="large", requests=2000, seconds=900, burst_requests=400, burst_seconds=60)

    admin_client.post(change_url(workspace), form_data(workspace, {}, tier="large"))

    event = latest_event("workspace.changed")
    assert (event.workspace, event.actor, event.sentence) == (workspace, operator, "tier: standard → large")
    assert Api(make_key(workspace)[1]).get("/me")["RateLimit-Policy"].startswith('"large";q=2000')


def test_a_throttled_workspace_is_marked_and_its_quota_can_be_cleared(
    admin_client: Client, api: Api, workspace: Workspace
) -> None:
    while api.get("/me").status_code == 200:
        pass
    page = admin_client.get(change_url(workspace)).content.decode()
    assert "<strong>0 of 40</strong>" in page
    throttled = re.search(r"<strong>Throttled</strong> for (\d+) more seconds?\.", page)
    assert throttled
    assert 1 <= int(throttled[1]) <= 60

    page = admin_client.post(action_url(workspace, "clear-quota"), follow=True).content.decode()

    assert "The quota of Acme is cleared." in page
    assert "<strong>40 of 40</strong>" in page
    assert latest_event("workspace.quota_cleared").workspace == workspace
    assert api.get("/me").status_code == 200


def test_the_confirmation_page_does_not_clear_the_quota(admin_client: Client, api: Api, workspace: Workspace) -> None:
    api.get("/me")

    page = admin_client.get(action_url(workspace, "clear-quota")).content.decode()

    assert "Clear the quota of Acme?" in page
    assert quota.status(workspace.pk, workspace.tier).windows[1].remaining == 39


# ---- suspension ----


def test_a_workspace_is_suspended_and_resumed_with_an_event_for_each(
    admin_client: Client, operator: User, api: Api, workspace: Workspace
) -> None:
    page = admin_client.post(action_url(workspace, "suspend"), {"reason": "Unpaid"}, follow=True).content.decode()
    assert "Acme is suspended. Its keys are rejected." in page
    assert "Unpaid" in page
    assert api.get("/me").status_code == 401

    page = admin_client.post(action_url(workspace, "resume"), {"reason": "Paid"}, follow=True).content.decode()
    assert "Acme is resumed. Its keys work again." in page
    assert api.get("/me").status_code == 200

    events = AuditEvent.objects.filter(action__startswith="workspace", via="admin").order_by("id")
    assert [(event.actor, event.sentence) for event in events] == [
        (operator, "Suspended: “Unpaid”"),
        (operator, "Resumed: “Paid”"),
    ]


def test_suspending_again_changes_nothing(admin_client: Client, workspace: Workspace) -> None:
    for reason in ("Unpaid", "Other"):
        admin_client.post(action_url(workspace, "suspend"), {"reason": reason})

    workspace.refresh_from_db()
    assert workspace.suspend_reason == "Unpaid"
    assert AuditEvent.objects.filter(action="workspace.suspended").count() == 1


@pytest.mark.parametrize("verb", ["suspend", "resume"])
def test_a_reason_is_required(admin_client: Client, workspace: Workspace, verb: str) -> None:
    page = admin_client.post(action_url(workspace, verb), {"reason": " "}).content.decode()

    assert "Enter a reason. It is saved with the change." in page


def test_an_unknown_workspace_is_404(admin_client: Client, workspace: Workspace) -> None:
    assert admin_client.get(action_url(workspace, "suspend").replace("w_5F0", "w_5F1")).status_code == 404


# ---- the list ----


def test_the_list_counts_active_keys_and_links_to_them(
    admin_client: Client, workspace: Workspace, elsewhere: Workspace, django_assert_max_num_queries: Any
) -> None:
    keys = [make_key(workspace)[0] for _ in range(3)]
    keys[0].revoke(by=BY_TEST)

    page = admin_client.get(changelist_url(Workspace))

    counts = {row.slug: row.active_keys for row in page.context["cl"].result_list}
    assert counts == {"acme": 2, "elsewhere": 0}
    assert f"/apikeys/apikey/?workspace={workspace.pk}" in page.content.decode()
    for number in range(20):
        make_key(make_workspace(make_user(f"owner-{number}"), slug=f"more-{number}"))
    with django_assert_max_num_queries(8):
        admin_client.get(changelist_url(Workspace))


def test_the_number_of_queries_does_not_depend_on_the_number_of_members(
    admin_client: Client, workspace: Workspace, django_assert_max_num_queries: Any
) -> None:
    for number in range(30):
        workspace.add_member(make_user(f"person-{number}"), Role.MEMBER, by=BY_TEST)

    with django_assert_max_num_queries(12):
        admin_client.get(change_url(workspace))


def test_saving_a_workspace_keeps_concurrent_changes(admin_client: Client, workspace: Workspace) -> None:
    """Another request suspends the workspace after this one has read it."""

    def suspend(sender: Any, instance: Workspace, **_: Any) -> None:
        pre_save.disconnect(suspend, Workspace)
        Workspace.objects.get(pk=instance.pk).suspend("Abuse", by=BY_TEST)

    pre_save.connect(suspend, Workspace)

    admin_client.post(change_url(workspace), form_data(workspace, {}, name="Renamed"))

    workspace.refresh_from_db()
    assert workspace.name == "Renamed"
    assert workspace.suspend_reason == "Abuse"
