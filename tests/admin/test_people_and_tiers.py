"""Users and tiers in the admin."""

import pytest
from django.test import Client

from core.admin import change_url, changelist_url
from tests.admin.pages import action_url, add_url
from workspaces.models import AuditEvent, Tier, User, Workspace

PASSWORD = "correct horse battery"
NEW = {"email": "New@Example.com", "name": "New", "usable_password": "true"}


def event_about(subject: str) -> AuditEvent:
    return AuditEvent.objects.filter(subject=subject).latest("id")


def test_a_user_is_created_with_an_event_that_does_not_contain_the_password(
    admin_client: Client, operator: User
) -> None:
    admin_client.post(add_url(User), {**NEW, "password1": PASSWORD, "password2": PASSWORD})

    user = User.objects.get(email="new@example.com")
    event = event_about(user.pk)
    assert user.check_password(PASSWORD)
    assert (event.action, event.actor, event.via) == ("user.created", operator, "admin")
    assert PASSWORD not in str(event.details)
    assert user.password not in str(event.details)


def test_a_user_is_changed_with_an_event(admin_client: Client, operator: User, owner: User) -> None:
    groups = list(operator.groups.all())
    data = {"email": "Boss@example.com", "name": "Owner", "is_active": "on", "is_staff": "on"}

    admin_client.post(change_url(owner), data | {"groups": [group.pk for group in groups]})

    assert event_about(owner.pk).details["changes"] == {
        "email": ["owner@example.com", "boss@example.com"],
        "is_staff": [False, True],
        "groups": [[], ["operators"]],
    }


def test_a_password_is_set_with_an_event_that_does_not_contain_it(
    admin_client: Client, operator: User, owner: User
) -> None:
    url = action_url(owner, "password").replace("_5F", "_")

    response = admin_client.post(url, {"password1": PASSWORD, "password2": PASSWORD, "usable_password": "true"})

    owner.refresh_from_db()
    event = event_about(owner.pk)
    assert response.status_code == 302
    assert owner.check_password(PASSWORD)
    assert (event.action, event.actor, event.details) == ("user.password_set", operator, {})


def test_a_users_page_shows_their_workspaces_and_links_to_the_keys_they_created(
    admin_client: Client, owner: User, workspace: Workspace
) -> None:
    page = admin_client.get(change_url(owner)).content.decode()

    assert f'<a href="{change_url(workspace)}">Acme</a> as owner' in page
    assert f"/apikeys/apikey/?created_by={owner.pk}" in page


LARGE = {"name": "large", "requests": "2000", "seconds": "900", "burst_requests": "400", "burst_seconds": "60"}


def test_a_tier_is_created_changed_and_deleted_with_an_event_for_each(admin_client: Client, operator: User) -> None:
    admin_client.post(add_url(Tier), LARGE)
    tier = Tier.objects.get(name="large")
    admin_client.post(change_url(tier), LARGE | {"requests": "3000", "name": "other"})
    assert list(Tier.objects.values_list("name", "requests")) == [("large", 3000), ("standard", 200)]
    admin_client.post(action_url(tier, "delete"), {"post": "yes"})

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
        ("requests", "10001"),
        ("seconds", "0"),
        ("seconds", "59"),
        ("burst_requests", "10001"),
        ("burst_seconds", "901"),
        ("name", "Large"),
        ("name", "burst"),
    ],
)
def test_an_invalid_tier_is_rejected(admin_client: Client, field: str, value: str) -> None:
    response = admin_client.post(add_url(Tier), LARGE | {field: value})

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
