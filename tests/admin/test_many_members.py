"""A workspace with more members than fit into one form. Django rejects a form with more than 1,000 fields."""

import pytest
from django.test import Client

from core.admin import change_url
from tests.admin.browser import Page
from workspaces.models import Membership, Role, User, Workspace


@pytest.fixture
def large(workspace: Workspace) -> Workspace:
    """A workspace with 300 members."""
    people = [User(email=f"{number}@example.com", name=str(number)) for number in range(297)]
    User.objects.bulk_create(people)
    Membership.objects.bulk_create(Membership(workspace=workspace, user=user) for user in people)
    return workspace


def test_members_are_changed_on_the_page_that_shows_them(admin_client: Client, large: Workspace) -> None:
    members = list(large.memberships.order_by("pk"))
    page = Page.open(admin_client, change_url(large))
    assert [url.rpartition("?")[2] for url in page.links if "?members=" in url] == ["members=2", "members=3"]

    last = Page.open(admin_client, f"{change_url(large)}?members=3").form()
    response = last.send(
        admin_client, None, name="Renamed", **{"memberships-99-role": "owner", "memberships-0-DELETE": "on"}
    )

    assert "was changed successfully" in response.content.decode()
    roles = dict(large.memberships.values_list("pk", "role"))
    assert roles == {item.pk: item.role for item in members if item != members[200]} | {members[299].pk: Role.OWNER}
    assert Workspace.objects.get().name == "Renamed"


def test_the_last_owner_cannot_be_removed_on_a_page(admin_client: Client, large: Workspace) -> None:
    first = Page.open(admin_client, change_url(large)).form()
    response = first.send(admin_client, None, **{"memberships-0-DELETE": "on"})

    assert "A workspace needs an owner." in response.content.decode()
