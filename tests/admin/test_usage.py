"""The usage of keys and workspaces, for operators."""

import re
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from apikeys.models import ApiKey, ApiKeyUsage, Interval
from core.admin import change_url
from tests.admin.browser import Page
from tests.admin.pages import BUSIEST, INDEX
from tests.helpers import make_key, make_workspace
from workspaces.models import User, Workspace

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("_frozen_clock")]

HOUR = timedelta(hours=1)


def use(api_key: ApiKey, admitted: int, rejected: int = 0, *, hours_ago: int = 0) -> None:
    """Add requests to the usage of a key."""
    hour = Interval.HOUR.start_of(timezone.now()) - hours_ago * HOUR
    ApiKeyUsage.objects.add({(api_key.pk, int(hour.timestamp())): (admitted, rejected, 0, 0)})


def rows(page: str, heading: str) -> list[list[str]]:
    """Return the texts of the cells in the table below a heading."""
    table = re.search(rf"<h[23]>{heading}</h[23]>.*?<tbody>(.*?)</tbody>", page, re.DOTALL)
    assert table is not None
    return [
        [re.sub(r"<.*?>", "", cell) for cell in re.findall(r"<td.*?>(.*?)</td>", row)]
        for row in re.findall(r"<tr>(.*?)</tr>", table[1])
    ]


def test_the_busiest_workspaces_and_keys_of_the_last_day(
    admin_client: Client, workspace: Workspace, elsewhere: Workspace, api_key: ApiKey
) -> None:
    script, old = make_key(elsewhere, "Nightly script")[0], make_key(elsewhere, "Old")[0]
    use(api_key, 900)
    use(script, 1_000_000, 12_000, hours_ago=23)
    use(script, 1)
    use(old, 5_000_000, hours_ago=24)

    page = admin_client.get(BUSIEST).content.decode()

    assert rows(page, "Workspaces") == [
        ["Elsewhere", "standard", "1,000,001", "12,000", "0", "0"],
        ["Acme", "standard", "900", "0", "0", "0"],
    ]
    assert rows(page, "Keys") == [
        [script.masked, "Nightly script", "Elsewhere", "1,000,001", "12,000", "0", "0"],
        [api_key.masked, "CI, production", "Acme", "900", "0", "0", "0"],
    ]
    assert change_url(script) in page


def test_ten_are_listed(admin_client: Client, owner: User) -> None:
    for number in range(12):
        use(make_key(make_workspace(owner, f"team-{number}"))[0], admitted=number + 1)

    page = admin_client.get(BUSIEST).content.decode()

    expected = [str(number) for number in range(12, 2, -1)]
    assert [row[-4] for row in rows(page, "Workspaces")] == [row[-4] for row in rows(page, "Keys")] == expected


def test_the_page_of_a_key_has_its_usage(admin_client: Client, api_key: ApiKey, workspace: Workspace) -> None:
    use(api_key, 1_200, 30)
    use(api_key, 7, hours_ago=30)
    use(make_key(workspace, "Deploys")[0], 5)

    page = admin_client.get(change_url(api_key)).content.decode()
    week = admin_client.get(change_url(api_key), {"usage": "7d"}).content.decode()

    assert "1,230 requests in the last 24 hours." in page
    assert "1,237 requests in the last 7 days." in week
    assert "chart.css" in page


def test_the_page_of_a_workspace_has_its_usage_and_busiest_keys(
    admin_client: Client, api_key: ApiKey, workspace: Workspace, elsewhere: Workspace
) -> None:
    deploys = make_key(workspace, "Deploys")[0]
    use(api_key, 10)
    use(deploys, 20, 3)
    use(make_key(elsewhere)[0], 500)

    page = admin_client.get(change_url(workspace)).content.decode()

    assert "33 requests in the last 24 hours." in page
    assert rows(page, "Busiest keys in the last 24 hours") == [
        [deploys.masked, "Deploys", "20", "3", "0", "0"],
        [api_key.masked, "CI, production", "10", "0", "0", "0"],
    ]


def test_the_usage_is_no_part_of_the_form(admin_client: Client, api_key: ApiKey) -> None:
    use(api_key, 10)
    page = Page.open(admin_client, change_url(api_key))

    assert "usage" not in {name for form in page.forms for name, _ in form.fields}


def test_pages_without_usage_say_so(admin_client: Client, api_key: ApiKey, workspace: Workspace) -> None:
    for obj in (api_key, workspace):
        page = admin_client.get(change_url(obj), {"usage": "unknown"}).content.decode()
        assert "No requests in the last 24 hours." in page
        assert "Busiest keys" not in page


def test_the_index_links_to_the_busiest(admin_client: Client) -> None:
    assert BUSIEST in admin_client.get(INDEX).content.decode()
    assert "No requests in the last 24 hours." in admin_client.get(BUSIEST).content.decode()
