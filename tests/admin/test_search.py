"""The search fields of the admin's lists."""

import re
from typing import Any

import pytest
from django.db.models import Model
from django.test import Client
from oauth2_provider.models import AccessToken, RefreshToken

from apikeys.models import ApiKey
from core.admin import changelist_url
from oauth.models import Application
from tests.admin.browser import Page
from tests.helpers import make_key
from workspaces.models import User, Workspace

LABELS: dict[type[Model], str] = {
    ApiKey: "Secret, key ID, description, workspace or creator",
    Workspace: "Start of a name or a slug, or a workspace ID",
    User: "Start of an email or a name, or a user ID",
    Application: "Start of a name or a client ID",
    AccessToken: "User's email or application's client ID",
    RefreshToken: "User's email or application's client ID",
}


@pytest.mark.parametrize("model", LABELS)
def test_a_short_label_says_what_is_searched(admin_client: Client, model: type[Model]) -> None:
    page = admin_client.get(changelist_url(model)).content.decode()

    label = re.search(r'<label for="([^"]+)">([^<]+)</label>\s*<input id="([^"]+)" type="text"', page)
    assert label is not None
    assert (label[1], label[2].replace("&#x27;", "'")) == (label[3], LABELS[model])


@pytest.mark.parametrize(("model", "text"), [(ApiKey, "ci, p"), (Workspace, "acm")])
def test_show_all_ends_a_search(
    admin_client: Client, workspace: Workspace, elsewhere: Workspace, model: type[Model], text: str
) -> None:
    make_key(workspace, "CI, production")
    make_key(elsewhere, "Nightly script")

    found: Any = admin_client.get(changelist_url(model), {"q": text})
    link = re.search(r'<a href="([^"]*)">Show all</a>', found.content.decode())
    assert link is not None
    everything: Any = admin_client.get(changelist_url(model) + link[1])

    assert f"“{text}”" in found.content.decode()
    assert len(found.context["cl"].result_list) == 1
    assert len(everything.context["cl"].result_list) == 2
    assert "Show all" not in everything.content.decode()


def test_a_search_keeps_the_filters_and_starts_at_the_first_page(admin_client: Client, owner: User) -> None:
    page = Page.open(admin_client, f"{changelist_url(User)}?is_staff__exact=0&p=1")

    response = page.form("Search").send(admin_client, q="ow")

    assert response.request["QUERY_STRING"] == "is_staff__exact=0&q=ow"
    assert [user.pk for user in response.context["cl"].result_list] == [owner.pk]
