"""Workspaces: their members, tier, suspension and quota."""

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest
from django.db.models.signals import pre_save
from django.test import Client

from core.admin import change_url, changelist_url
from tests.admin.browser import Form, Page
from tests.admin.pages import action_url, add_url
from tests.helpers import BY_TEST, Api, make_key, make_user, make_workspace
from workspaces import quota
from workspaces.models import AuditEvent, Membership, Role, Tier, User, Workspace


class WorkspacePage(NamedTuple):
    """A workspace's page in an operator's browser."""

    client: Client
    form: Form
    rows: dict[str, str]  # the prefix of each member's controls, by user

    @classmethod
    def open(cls, client: Client, workspace: Workspace) -> "WorkspacePage":
        members = enumerate(workspace.memberships.values_list("user", flat=True))
        rows = {user: f"memberships-{index}" for index, user in members}
        return cls(client, Page.open(client, change_url(workspace)).form(), rows)

    def save(self, roles: Mapping[User, str | None], **fields: str) -> Any:
        """Change roles and click "Save". A role of None removes a member, and a new user is added."""
        entered: dict[str, Any] = dict(fields)
        for user, role in roles.items():
            row = self.rows.get(user.pk)
            if row is None:  # as "Add another" does: a copy of the template's controls
                row = f"memberships-{len(self.rows)}"
                template = dict(field for field in self.form.fields if "__prefix__" in field[0])
                entered |= {name.replace("memberships-__prefix__", row): value for name, value in template.items()}
                entered |= {f"{row}-user": user.pk, "memberships-TOTAL_FORMS": str(len(self.rows) + 1)}
            entered |= {f"{row}-DELETE": "on"} if role is None else {f"{row}-role": role}
        return self.form.send(self.client, **entered)


def change(client: Client, workspace: Workspace, roles: Mapping[User, str | None], **fields: str) -> Any:
    """Open a workspace's page, change it, and click "Save"."""
    return WorkspacePage.open(client, workspace).save(roles, **fields)


def roles_in(workspace: Workspace) -> dict[str, str]:
    return dict(workspace.memberships.values_list("user__name", "role"))


def latest_event(action: str) -> AuditEvent:
    return AuditEvent.objects.filter(action=action).latest("id")


# ---- members ----


def test_a_member_is_added_promoted_and_removed_with_an_event_for_each(
    admin_client: Client, operator: User, workspace: Workspace, admin: User, member: User, outsider: User
) -> None:
    change(admin_client, workspace, {member: "admin", admin: None, outsider: "member"})

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

    response = change(admin_client, workspace, {owner: role, member: "admin"}, name="Acme & Sons")

    page = response.content.decode()
    assert "A workspace needs an owner. Make another member an owner first." in page
    assert 'value="Acme &amp; Sons"' in page
    assert re.search(r'<option value="admin" selected>Admin</option>', page)
    assert roles_in(workspace) == before
    assert not AuditEvent.objects.filter(via="admin").exists()


def test_ownership_is_transferred_in_one_request(
    admin_client: Client, workspace: Workspace, owner: User, member: User
) -> None:
    change(admin_client, workspace, {owner: None, member: "owner"})

    assert roles_in(workspace) == {"Admin": "admin", "Member": "owner"}


def test_the_user_of_a_membership_cannot_be_changed(
    admin_client: Client, workspace: Workspace, owner: User, outsider: User
) -> None:
    change(admin_client, workspace, {}, **{"memberships-0-user": outsider.pk})

    assert not Membership.objects.filter(workspace=workspace, user=outsider).exists()


def test_the_controls_of_a_member_name_the_person(admin_client: Client, workspace: Workspace, member: User) -> None:
    page = admin_client.get(change_url(workspace)).content.decode()

    assert re.search(f'<select[^>]* aria-label="Role of {member.email}"', page)
    assert re.search(f'<input type="checkbox"[^>]* aria-label="Remove {member.email}"', page)
    assert f'<a href="{change_url(member)}">{member.email}</a>' in page
    assert re.search('<select name="memberships-__prefix__-role" aria-label="Role of the new member"', page)


# ---- new workspaces ----


def test_a_new_workspace_has_an_owner(admin_client: Client, operator: User, owner: User) -> None:
    Tier.objects.create(name="large", requests=2000, seconds=900, burst_requests=400, burst_seconds=60)
    form = Page.open(admin_client, add_url(Workspace)).form()

    response = form.send(admin_client, name="New", slug="new", owner=owner.pk, tier="large")

    workspace = Workspace.objects.get(slug="new")
    assert response.redirect_chain == [(changelist_url(Workspace), 302)]
    assert "was added successfully" in response.content.decode()
    assert (workspace.name, workspace.tier_id, roles_in(workspace)) == ("New", "large", {"Owner": "owner"})
    changes = {"name": [None, "New"], "slug": [None, "new"], "tier": [None, "large"]}
    events = [(event.action, event.actor, event.details) for event in workspace.audit_events.order_by("id")]
    assert events == [
        ("workspace.created", operator, {"changes": changes}),
        ("membership.created", operator, {"role": "owner"}),
    ]


@pytest.mark.parametrize("button", ["_continue", "_addanother"])
def test_each_button_of_the_form_creates_the_workspace(admin_client: Client, owner: User, button: str) -> None:
    form = Page.open(admin_client, add_url(Workspace)).form()
    chosen = next(item for item in form.buttons if item.name == button)

    response = form.send(admin_client, chosen, name="New", slug="new", owner=owner.pk)

    url = change_url(Workspace.objects.get(slug="new")) if button == "_continue" else add_url(Workspace)
    assert response.redirect_chain == [(url, 302)]


@pytest.mark.parametrize(
    ("chosen", "error"),
    [
        (None, "Choose an owner. If the person has no account yet, add one with the plus sign."),
        ("u_01m8btds2e1csdga5k75c9375m", "This person has no account any more. Choose someone else."),
    ],
)
def test_a_workspace_without_an_owner_is_rejected_next_to_the_field_and_the_form_keeps_its_values(
    admin_client: Client, chosen: str | None, error: str
) -> None:
    form = Page.open(admin_client, add_url(Workspace)).form()

    response = form.send(admin_client, name="Acme & Sons", slug="sons", owner=chosen)

    assert response.context["errors"] == [[error]]
    assert re.search(rf'<ul class="errorlist" id="id_owner_error"><li>{error}</li></ul>', response.content.decode())
    assert {("name", "Acme & Sons"), ("slug", "sons")} <= set(Page("/", response.content.decode()).form().fields)
    assert not Workspace.objects.exists()
    assert not AuditEvent.objects.exists()


def test_the_form_keeps_the_owner_when_another_field_is_invalid(
    admin_client: Client, workspace: Workspace, outsider: User
) -> None:
    form = Page.open(admin_client, add_url(Workspace)).form()

    response = form.send(admin_client, name="Other", slug=workspace.slug, owner=outsider.pk)
    again = Page(add_url(Workspace), response.content.decode()).form()

    assert "Workspace with this Slug already exists." in response.content.decode()
    assert ("owner", outsider.pk) in again.fields
    again.send(admin_client, slug="other")
    assert roles_in(Workspace.objects.get(slug="other")) == {"Outsider": "owner"}


def test_a_person_without_an_account_is_added_in_a_pop_up(admin_client: Client, db: None) -> None:
    page = Page.open(admin_client, add_url(Workspace))
    popup = next(url for url in page.links if url.startswith(add_url(User)) and "_popup=1" in url)

    password = "correct horse battery"
    added = (
        Page.open(admin_client, popup)
        .form()
        .send(admin_client, email="new@example.com", name="New", password1=password, password2=password)
    )

    user = User.objects.get(email="new@example.com")
    assert json.loads(added.context["popup_response_data"]) == {"value": user.pk, "obj": "new@example.com"}
    page.form().send(admin_client, name="New", slug="new", owner=user.pk)
    assert roles_in(Workspace.objects.get()) == {"New": "owner"}


# ---- outdated pages: someone else made a change after the page was opened ----


def test_an_outdated_page_does_not_undo_another_operators_changes(
    admin_client: Client, workspace: Workspace, owner: User, member: User
) -> None:
    Tier.objects.create(name="large", requests=2000, seconds=900, burst_requests=400, burst_seconds=60)
    page = WorkspacePage.open(admin_client, workspace)
    change(admin_client, workspace, {member: "owner"}, name="Renamed", tier="large")
    change(admin_client, workspace, {owner: "member"})

    page.save({}, slug="moved")

    workspace.refresh_from_db()
    assert (workspace.name, workspace.slug, workspace.tier_id) == ("Renamed", "moved", "large")
    assert roles_in(workspace) == {"Owner": "member", "Admin": "admin", "Member": "owner"}
    assert latest_event("workspace.changed").details == {"changes": {"slug": ["acme", "moved"]}}


def test_an_outdated_page_cannot_remove_the_last_owner(
    admin_client: Client, workspace: Workspace, owner: User, member: User
) -> None:
    change(admin_client, workspace, {member: "owner"})
    page = WorkspacePage.open(admin_client, workspace)
    change(admin_client, workspace, {owner: "admin"})

    response = page.save({member: None})

    assert "A workspace needs an owner." in response.content.decode()
    assert roles_in(workspace) == {"Owner": "admin", "Admin": "admin", "Member": "owner"}


@pytest.mark.parametrize("role", [None, "owner", "member"])
def test_a_page_with_a_member_who_has_left_shows_the_current_members(
    admin_client: Client, workspace: Workspace, admin: User, role: str | None
) -> None:
    page = WorkspacePage.open(admin_client, workspace)
    change(admin_client, workspace, {admin: None})
    before = AuditEvent.objects.count()

    response = page.save({admin: role} if role != "member" else {}, name="Typed")

    assert response.status_code == 200
    text = response.content.decode()
    assert "The members have changed since you opened this page." in text
    assert "Admin" not in roles_in(workspace)
    assert AuditEvent.objects.count() == before
    Page(change_url(workspace), text).form().send(admin_client)
    workspace.refresh_from_db()
    assert workspace.name == "Typed"


@pytest.mark.parametrize("field", ["id", "workspace"])
def test_a_membership_cannot_be_moved_between_workspaces(
    admin_client: Client, workspace: Workspace, elsewhere: Workspace, field: str
) -> None:
    before = list(Membership.objects.order_by("pk").values())
    value = elsewhere.memberships.get().pk if field == "id" else elsewhere.pk

    response = change(admin_client, workspace, {}, **{f"memberships-0-{field}": value, "memberships-0-role": "admin"})

    assert response.status_code == 200
    assert list(Membership.objects.order_by("pk").values()) == before


def test_a_person_is_added_once(admin_client: Client, workspace: Workspace, outsider: User) -> None:
    page = WorkspacePage.open(admin_client, workspace)
    page.save({outsider: "member"})

    response = page.save({outsider: "admin"})

    assert "This person is in the workspace already." in response.content.decode()
    assert roles_in(workspace)["Outsider"] == "member"


# ---- tier and quota ----


def test_a_workspace_moves_to_another_tier_with_an_event(
    admin_client: Client, operator: User, workspace: Workspace
) -> None:
    Tier.objects.create(name="large", requests=2000, seconds=900, burst_requests=400, burst_seconds=60)

    change(admin_client, workspace, {}, tier="large")

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
    event = latest_event("workspace.quota_cleared")
    assert (event.workspace, event.sentence) == (workspace, "Quota cleared")
    assert api.get("/me").status_code == 200


def test_the_confirmation_page_does_not_clear_the_quota(admin_client: Client, api: Api, workspace: Workspace) -> None:
    api.get("/me")

    page = admin_client.get(action_url(workspace, "clear-quota")).content.decode()

    assert "Clear the quota of Acme?" in page
    assert quota.status(workspace.pk, workspace.tier).windows[1].remaining == 39


def test_the_tier_has_no_link_that_edits_it_for_every_workspace(admin_client: Client, workspace: Workspace) -> None:
    for url in (change_url(workspace), add_url(Workspace)):
        assert not [link for link in Page.open(admin_client, url).links if f"{changelist_url(Tier)}" in link]


def test_the_user_of_a_membership_can_be_added_but_not_edited(admin_client: Client, workspace: Workspace) -> None:
    for url in (change_url(workspace), add_url(Workspace)):
        html = admin_client.get(url).content.decode()
        assert "Add another user" in html
        assert not re.search(r"(Change|View|Delete) selected user", html)


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

    change(admin_client, workspace, {}, name="Renamed")

    workspace.refresh_from_db()
    assert workspace.name == "Renamed"
    assert workspace.suspend_reason == "Abuse"
