"""Users and tiers in the admin."""

import threading
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from django.db import connection
from django.db.models.signals import post_save, pre_save
from django.test import Client

from core.admin import change_url, changelist_url
from tests.admin.browser import Form, Page
from tests.admin.pages import action_url, add_url
from tests.helpers import Api, commits, make_staff, make_token, sign_in
from tests.processes import in_threads
from workspaces.models import AuditEvent, Tier, User, Workspace

PASSWORD = "correct horse battery"


def event_about(subject: str) -> AuditEvent:
    return AuditEvent.objects.filter(subject=subject).latest("id")


def test_a_user_is_created_with_an_event_that_does_not_contain_the_password(
    admin_client: Client, operator: User
) -> None:
    form = Page.open(admin_client, add_url(User)).form()
    form.send(admin_client, email="New@Example.com", name="New", password1=PASSWORD, password2=PASSWORD)

    user = User.objects.get(email="new@example.com")
    event = event_about(user.pk)
    assert user.check_password(PASSWORD)
    assert (event.action, event.actor, event.via) == ("user.created", operator, "admin")
    assert PASSWORD not in str(event.details)
    assert user.password not in str(event.details)


def test_a_user_is_changed_with_an_event(admin_client: Client, operator: User, owner: User) -> None:
    groups = [str(group.pk) for group in operator.groups.all()]
    form = Page.open(admin_client, change_url(owner)).form()

    form.send(admin_client, email="Boss@example.com", is_staff="on", groups=groups)

    assert event_about(owner.pk).details["changes"] == {
        "email": ["owner@example.com", "boss@example.com"],
        "is_staff": [False, True],
        "groups": [[], ["operators"]],
    }


def test_a_password_is_set_with_an_event_that_does_not_contain_it(
    admin_client: Client, operator: User, owner: User
) -> None:
    page = Page.open(admin_client, action_url(owner, "password").replace("_5F", "_"))

    response = page.form("Change password").send(admin_client, password1=PASSWORD, password2=PASSWORD)

    owner.refresh_from_db()
    event = event_about(owner.pk)
    assert "Password changed successfully." in response.content.decode()
    assert owner.check_password(PASSWORD)
    assert (event.action, event.actor, event.details) == ("user.password_set", operator, {})


def test_disabling_the_password_ends_sessions_and_tokens(
    admin_client: Client, owner: User, workspace: Workspace
) -> None:
    browser, person = sign_in(owner), Api(make_token(owner))
    assert person.get("/me").status_code == 200

    admin_client.post(
        action_url(owner, "password").replace("_5F", "_"), {"usable_password": "false", "unset-password": "1"}
    )

    assert not User.objects.get(pk=owner.pk).has_usable_password()
    assert browser.get("/workspaces/").status_code == 302
    assert person.get("/me").status_code == 401
    actions = AuditEvent.objects.filter(subject=owner.pk).order_by("id").values_list("action", flat=True)
    assert list(actions)[-2:] == ["user.password_set", "user.access_ended"]


def test_setting_a_password_keeps_concurrent_changes(admin_client: Client, owner: User) -> None:
    """Another operator deactivates the user after this request has read them."""

    def deactivate(sender: Any, instance: User, **_: Any) -> None:
        if instance.pk == owner.pk:
            pre_save.disconnect(deactivate, User)
            User.objects.filter(pk=owner.pk).update(is_active=False)

    pre_save.connect(deactivate, User)

    form = {"password1": PASSWORD, "password2": PASSWORD, "usable_password": "true"}
    admin_client.post(action_url(owner, "password").replace("_5F", "_"), form)

    owner.refresh_from_db()
    assert owner.check_password(PASSWORD)
    assert not owner.is_active


def test_an_operator_ends_the_sessions_and_tokens_of_a_user(
    admin_client: Client, operator: User, owner: User, workspace: Workspace
) -> None:
    browser, person, url = sign_in(owner), Api(make_token(owner)), action_url(owner, "end-access")
    assert f'<a href="{url}">End sessions and tokens</a>' in admin_client.get(change_url(owner)).content.decode()

    page = admin_client.get(url).content.decode()
    assert "End all sessions and tokens of owner@example.com?" in page
    assert [browser.get("/workspaces/").status_code, person.get("/me").status_code] == [200, 200]

    page = admin_client.post(url, REMOTE_ADDR="192.0.2.7", follow=True).content.decode()
    assert "All sessions and tokens of owner@example.com are ended." in page
    assert [browser.get("/workspaces/").status_code, person.get("/me").status_code] == [302, 401]
    event = event_about(owner.pk)
    assert (event.action, event.actor, event.via) == ("user.access_ended", operator, "admin")
    assert (event.client_ip, event.sentence) == ("192.0.2.7", "Sessions and tokens ended")


def test_ending_access_needs_a_csrf_token_and_an_existing_user(operator: User, owner: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(operator)

    assert client.post(action_url(owner, "end-access")).status_code == 403
    assert client.get(action_url(owner, "end-access").replace("u_5F0", "u_5F1")).status_code == 404
    assert not AuditEvent.objects.filter(action="user.access_ended").exists()


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no row locks")
@commits
def test_two_operators_can_change_each_other_at_once() -> None:
    """Each request updates the other operator, then waits for the other request, if it has come as far, for a second.

    Without an order of their locks, each of them would wait for the row that the other one has updated.
    """
    first, second = make_staff("first", "operators"), make_staff("second", "operators")
    updated = threading.Barrier(2)

    def wait(sender: Any, **_: Any) -> None:
        with suppress(threading.BrokenBarrierError):
            updated.wait(1)

    def rename(client: Client, form: Form) -> Any:
        return form.send(client, name="New name").redirect_chain

    clients = sign_in(first), sign_in(second)
    forms = [
        Page.open(client, change_url(other)).form() for client, other in zip(clients, (second, first), strict=True)
    ]
    post_save.connect(wait, User)
    try:
        outcomes = in_threads(*(partial(rename, *pair) for pair in zip(clients, forms, strict=True)))
    finally:
        post_save.disconnect(wait, User)

    assert outcomes == 2 * [[(changelist_url(User), 302)]]
    assert set(User.objects.values_list("name", flat=True)) == {"New name"}


def test_a_deactivation_is_an_event(admin_client: Client, operator: User, owner: User) -> None:
    admin_client.post(change_url(owner), {"email": owner.email, "name": owner.name})

    event = event_about(owner.pk)
    assert (event.action, event.actor, event.sentence) == ("user.changed", operator, "is_active: True → False")


def test_a_users_page_shows_their_workspaces_and_links_to_the_keys_they_created(
    admin_client: Client, owner: User, workspace: Workspace
) -> None:
    page = admin_client.get(change_url(owner)).content.decode()

    assert f'<a href="{change_url(workspace)}">Acme</a> as owner' in page
    assert f"/apikeys/apikey/?created_by={owner.pk}" in page


LARGE: dict[str, Any] = {
    "name": "large",
    "requests": "2000",
    "seconds": "900",
    "burst_requests": "400",
    "burst_seconds": "60",
}


def test_a_tier_is_created_changed_and_deleted_with_an_event_for_each(admin_client: Client, operator: User) -> None:
    Page.open(admin_client, add_url(Tier)).form().send(admin_client, **LARGE)
    tier = Tier.objects.get(name="large")
    Page.open(admin_client, change_url(tier)).form().send(admin_client, requests="3000", name="other")
    assert list(Tier.objects.values_list("name", "requests")) == [("large", 3000), ("standard", 200)]
    Page.open(admin_client, action_url(tier, "delete")).forms[-1].send(admin_client)

    events = AuditEvent.objects.filter(subject="large").order_by("id")
    assert [(event.action, event.actor) for event in events] == [
        ("tier.created", operator),
        ("tier.changed", operator),
        ("tier.deleted", operator),
    ]
    assert events[1].sentence == "requests: 2000 → 3000"
    assert not Tier.objects.filter(name="large").exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("requests", "0"),
        ("requests", "-1"),
        ("requests", "2.5"),
        ("requests", "1000001"),
        ("seconds", "0"),
        ("seconds", "59"),
        ("burst_requests", "1000001"),
        ("burst_seconds", "901"),
        ("name", "Large"),
        ("name", "burst"),
    ],
)
def test_an_invalid_tier_is_rejected(admin_client: Client, field: str, value: str) -> None:
    response = Page.open(admin_client, add_url(Tier)).form().send(admin_client, **LARGE | {field: value})

    assert b"errorlist" in response.content
    assert Tier.objects.count() == 1


def test_a_tier_in_use_and_the_default_tier_can_not_be_deleted(admin_client: Client, workspace: Workspace) -> None:
    workspace.tier = Tier.objects.create(name="large", requests=9, seconds=9, burst_requests=9, burst_seconds=9)
    workspace.save()

    statuses = [
        admin_client.post(action_url(tier, "delete"), {"post": "yes"}).status_code
        for tier in Tier.objects.order_by("name")
    ]

    assert statuses == [200, 403]
    assert Tier.objects.count() == 2


def test_an_objects_history_is_its_audit_events(admin_client: Client, owner: User) -> None:
    assert (
        admin_client.get(action_url(owner, "history"))["Location"] == f"{changelist_url(AuditEvent)}?subject={owner.pk}"
    )


def test_an_outdated_page_does_not_undo_another_operators_changes(
    admin_client: Client, operator: User, owner: User
) -> None:
    """Such as a permission that another operator has just taken away."""
    groups = [str(group.pk) for group in operator.groups.all()]
    Page.open(admin_client, change_url(owner)).form().send(admin_client, is_staff="on", groups=groups)
    with_groups = Page.open(admin_client, change_url(owner)).form()
    Page.open(admin_client, change_url(owner)).form().send(admin_client, groups=None, is_active=None)
    without_groups = Page.open(admin_client, change_url(owner)).form()

    with_groups.send(admin_client, name="Renamed")

    owner.refresh_from_db()
    assert (owner.name, owner.is_active, list(owner.groups.all())) == ("Renamed", False, [])
    assert event_about(owner.pk).details == {"changes": {"name": ["Owner", "Renamed"]}}

    Page.open(admin_client, change_url(owner)).form().send(admin_client, groups=groups)
    without_groups.send(admin_client, is_active="on")
    owner.refresh_from_db()
    assert (owner.is_active, owner.groups.count()) == (True, 1)


def test_fields_that_two_operators_changed_are_validated_together(admin_client: Client, db: None) -> None:
    tier = Tier.objects.create(name="large", requests=2000, seconds=900, burst_requests=400, burst_seconds=60)
    outdated = Page.open(admin_client, change_url(tier)).form()
    Page.open(admin_client, change_url(tier)).form().send(admin_client, seconds="100")

    response = outdated.send(admin_client, burst_seconds="900")

    tier.refresh_from_db()
    assert (tier.seconds, tier.burst_seconds) == (100, 60)
    assert "can&#x27;t be longer than the main one" in response.content.decode()


def test_an_email_that_differs_only_in_case_is_no_change(admin_client: Client, owner: User) -> None:
    Page.open(admin_client, change_url(owner)).form().send(admin_client, email="OWNER@example.com")

    assert not AuditEvent.objects.exists()


def test_a_persons_quota_is_shown_and_cleared(admin_client: Client, operator: User, owner: User) -> None:
    api = Api(make_token(owner))
    while api.get("/me").status_code == 200:
        pass
    url = action_url(owner, "clear-quota")
    page = admin_client.get(change_url(owner)).content.decode()
    assert "<strong>0 of 40</strong>" in page
    assert url in Page(change_url(owner), page).links

    page = Page.open(admin_client, url).form("Clear quota").send(admin_client).content.decode()

    assert "The quota of owner@example.com is cleared." in page
    assert "<strong>40 of 40</strong>" in page
    event = AuditEvent.objects.latest("pk")
    assert (event.action, event.subject, event.actor) == ("user.quota_cleared", owner.pk, operator)
    assert api.get("/me").status_code == 200
