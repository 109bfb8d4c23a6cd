"""How the list of keys sorts, counts and searches, and what it marks."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape

import pytest
from django.test import Client
from django.utils import timezone

from apikeys.models import ApiKey, StoredSecret
from tests.helpers import BY_TEST, fill_quota, html_of, make_key, text_of
from workspaces.models import Workspace


def in_order(html: str) -> list[str]:
    return re.findall(r'<th scope="row"><a [^>]*>([^<]*)</a>', html)


def test_the_list_is_sorted_by_creation_last_use_or_expiry(
    owner_client: Client, workspace: Workspace, keys_url: str
) -> None:
    now = timezone.now()
    for name, used, expires in [("A", 5, 20), ("B", None, 10), ("C", 1, None), ("D", None, None)]:
        api_key, _ = make_key(workspace, name)
        ApiKey.objects.filter(pk=api_key.pk).update(expires_at=expires and now + timedelta(days=expires))
        if used is not None:
            StoredSecret.objects.filter(api_key=api_key).update(last_used_at=now - timedelta(hours=used))

    for query, order, label, direction in [
        ("", "DCBA", "Created", "descending"),
        ("?sort=created", "DCBA", "Created", "descending"),
        ("?sort=used", "CADB", "Last used", "descending"),
        ("?sort=expires", "BADC", "Expires", "ascending"),
        ("?sort=nonsense", "DCBA", "Created", "descending"),
    ]:
        page = html_of(owner_client.get(keys_url + query))
        assert "".join(in_order(page)) == order
        assert re.findall(r'aria-sort="(\w+)"[^>]*><a [^>]*>([^<]*)<', page) == [(direction, label)]


def test_a_rotated_key_is_sorted_by_the_last_use_of_its_current_secret(
    owner_client: Client, workspace: Workspace, keys_url: str
) -> None:
    rotated, used = make_key(workspace, "Rotated")[0], make_key(workspace, "Used")[0]
    rotated.current_secret.record_use("203.0.113.7")
    rotated.rotate(overlap=timedelta(days=1), by=BY_TEST)
    StoredSecret.objects.filter(api_key=used).update(last_used_at=timezone.now() - timedelta(days=9))

    assert in_order(html_of(owner_client.get(f"{keys_url}?sort=used"))) == ["Used", "Rotated"]


def test_links_keep_the_order_and_the_status(owner_client: Client, workspace: Workspace, keys_url: str) -> None:
    make_key(workspace)

    page = html_of(owner_client.get(f"{keys_url}?sort=used&status=all"))

    links = {text_of(text): unescape(url) for url, text in re.findall(r'<a href="(\./[^"]*)"[^>]*>(.*?)</a>', page)}
    assert links["Active 1"] == "./?status=active&sort=used"
    assert links["Created"] == "./?status=all"
    assert links["Expires"] == "./?status=all&sort=expires"
    assert owner_client.post(f"{keys_url}find/?sort=used", {"text": "CI"})["Location"] == f"{keys_url}?q=CI&sort=used"


def test_each_tab_has_the_number_of_its_keys(owner_client: Client, workspace: Workspace, keys_url: str) -> None:
    keys = [make_key(workspace, f"Key {number}")[0] for number in range(6)]
    for api_key in keys[:2]:
        api_key.revoke(by=BY_TEST)
    expired = [api_key.pk for api_key in keys[1:3]]  # one of them is also revoked
    ApiKey.objects.filter(pk__in=expired).update(expires_at=timezone.now() - timedelta(hours=1))

    page = html_of(owner_client.get(keys_url))

    tabs = re.search(r'<nav class="tabs" aria-label="Status">(.*?)</nav>', page, re.DOTALL)
    assert tabs
    assert text_of(tabs[1]) == "Active 3 Expired 1 Revoked 2 All 6"
    assert "3 of 20 active keys" in text_of(page)


@pytest.mark.parametrize(("text", "message"), [("CI", "2 keys match “CI”"), ("Billing", "1 key matches “Billing”")])
def test_a_search_says_how_many_keys_match_and_can_be_cleared(
    owner_client: Client, workspace: Workspace, keys_url: str, text: str, message: str
) -> None:
    for description in ("CI, production", "CI, staging", "Billing"):
        make_key(workspace, description)

    page = html_of(owner_client.get(keys_url, {"q": text, "sort": "used"}))

    assert message in text_of(page)
    assert re.findall(r'<a href="([^"]*)">Clear search</a>', page) == ["./?sort=used"]


def test_a_search_for_a_secret_shows_only_its_key_with_its_status(
    owner_client: Client, workspace: Workspace, keys_url: str
) -> None:
    make_key(workspace, "Another")
    api_key, secret = make_key(workspace, "Leaked")

    for status, actions in [("Active", 1), ("Revoked", 0)]:
        page = html_of(owner_client.post(f"{keys_url}find/", {"text": secret}, follow=True))
        assert in_order(page) == ["Leaked"]
        assert re.findall(r'<span class="status \w+">(\w+)</span>', page) == [status]
        assert page.count(f'href="{keys_url}{api_key.pk}/revoke/"') == actions
        assert f'<a class="button" href="{keys_url}">Clear search</a>' in page
        api_key.revoke(by=BY_TEST)


def test_the_status_is_shown_only_if_the_key_does_not_work(
    owner_client: Client, workspace: Workspace, api_key: ApiKey, keys_url: str, key_url: str
) -> None:
    status = re.compile(r'<span class="status \w+">(\w+)</span>')
    assert status.findall(html_of(owner_client.get(keys_url))) == []
    assert status.findall(html_of(owner_client.get(key_url))) == ["Active"]

    workspace.suspend("Unpaid invoices", by=BY_TEST)
    assert status.findall(html_of(owner_client.get(keys_url))) == ["Suspended"]
    assert status.findall(html_of(owner_client.get(key_url))) == ["Suspended"]

    api_key.revoke(by=BY_TEST)
    assert status.findall(html_of(owner_client.get(f"{keys_url}?status=all"))) == ["Revoked"]


def test_the_limits_are_marked_when_little_is_left(owner_client: Client, workspace: Workspace, keys_url: str) -> None:
    def low() -> list[str]:
        page = html_of(owner_client.get(keys_url))
        return [text_of(text) for text in re.findall(r'<p class="low">(.*?)</p>', page)]

    for number in range(16):
        make_key(workspace, f"Key {number}")
    fill_quota(workspace.pk, workspace.tier, 32)
    assert low() == []

    make_key(workspace, "Key 17")
    fill_quota(workspace.pk, workspace.tier, 1)

    assert low() == ["17 of 20 active keys", "7 of 40 requests left · last minute"]
