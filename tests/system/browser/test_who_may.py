from __future__ import annotations

import pytest
from playwright.sync_api import expect

from apikeys.models import ApiKey
from tests.helpers import BY_TEST, Visit, commits
from workspaces.models import Membership, Role, User, Workspace

pytestmark = commits


def test_a_member_sees_who_can_help(visit: Visit, member: User, api_key: ApiKey, keys_url: str) -> None:
    page = visit(member)
    for path in ("", "add/", f"{api_key.pk}/", f"{api_key.pk}/revoke/", f"{api_key.pk}/rotate/", "quota/"):
        response = page.goto(keys_url + path)

        assert response is not None
        assert response.status == 403
        expect(page.get_by_role("main")).to_contain_text("owner@example.com")
        expect(page.get_by_role("main")).to_contain_text("admin@example.com")
        assert api_key.description not in page.content()


def test_an_outsider_sees_not_found(
    visit: Visit, outsider: User, elsewhere: Workspace, api_key: ApiKey, workspace: Workspace, keys_url: str
) -> None:
    page = visit(outsider)
    for path in ("", "add/", f"{api_key.pk}/", f"{api_key.pk}/revoke/", f"{api_key.pk}/rotate/", "quota/"):
        response = page.goto(keys_url + path)

        assert response is not None
        assert response.status == 404
        assert workspace.name not in page.content()


@pytest.mark.parametrize("change", ["demoted", "removed"])
def test_an_admin_demoted_or_removed_while_the_page_is_open_can_change_nothing(
    visit: Visit, admin: User, api_key: ApiKey, workspace: Workspace, keys_url: str, change: str
) -> None:
    adding, revoking = visit(admin), visit(admin)
    adding.goto(f"{keys_url}add/")
    adding.get_by_label("Description").fill("Too late")
    revoking.goto(f"{keys_url}{api_key.pk}/revoke/")

    membership = Membership.objects.get(user=admin)
    if change == "demoted":
        membership.change_role(Role.MEMBER, by=BY_TEST)
    else:
        membership.leave(by=BY_TEST)
    with adding.expect_navigation() as added:
        adding.get_by_role("button", name="Create key").click()
    with revoking.expect_navigation() as revoked:
        revoking.get_by_role("button", name="Revoke key").click()

    expected = 403 if change == "demoted" else 404
    assert [navigation.value and navigation.value.status for navigation in (added, revoked)] == [expected, expected]
    assert list(workspace.api_keys.active()) == [api_key]


def test_an_anonymous_user_is_redirected_to_the_sign_in_page(visit: Visit, api_key: ApiKey, keys_url: str) -> None:
    page = visit()
    for path in ("", "add/", f"{api_key.pk}/", f"{api_key.pk}/revoke/", f"{api_key.pk}/rotate/", "quota/"):
        page.goto(keys_url + path)

        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
