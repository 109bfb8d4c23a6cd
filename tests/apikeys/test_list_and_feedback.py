"""What the pages confirm, where the focus goes, and how the list sorts, counts and searches."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape

import pytest
from django.test import Client
from django.utils import timezone

from apikeys.models import ApiKey, StoredSecret
from tests.helpers import BY_TEST, fill_quota, html_of, make_key, text_of
from workspaces.models import User, Workspace

IDEMPOTENCY_KEY = "0" * 32
NEW = {"description": "CI, production", "expiry": "never", "idempotency_key": IDEMPOTENCY_KEY}


def focused(html: str) -> list[str]:
    """Return the ids of the elements that get the focus when the page has loaded, or the tags of those without one."""
    html = re.sub(r"<dialog.*?</dialog>", "", html, flags=re.DOTALL)
    elements = re.findall(r"<(\w+)([^>]* autofocus[^>]*)>", html)
    return [(re.findall(r' id="([^"]*)"', attributes) or [tag])[0] for tag, attributes in elements]


# ---- confirmations ----


def test_the_page_after_the_secret_confirms_that_the_key_was_created_and_leads_to_it(
    owner_client: Client, keys_url: str
) -> None:
    shown = html_of(owner_client.post(f"{keys_url}add/", NEW))
    listed, reloaded = html_of(owner_client.get(keys_url)), html_of(owner_client.get(keys_url))

    assert "Key created." not in shown
    assert '<p class="notice notice-success" role="status">Key created.</p>' in listed
    assert '<tr class="changed">' in listed
    assert re.search(r'<a href="[^"]*" autofocus>CI, production</a>', listed)
    for text in ("Key created.", 'class="changed"', "autofocus"):
        assert text not in reloaded


def test_the_key_page_confirms_that_the_key_was_rotated(owner_client: Client, api_key: ApiKey, key_url: str) -> None:
    replacing = api_key.current_secret.key_id
    form = {"overlap": "24h", "idempotency_key": IDEMPOTENCY_KEY, "replacing": replacing}

    shown = html_of(owner_client.post(f"{key_url}rotate/", form))

    assert "Key rotated." not in shown
    assert "Key rotated." in html_of(owner_client.get(key_url))


def test_the_sign_in_page_confirms_that_the_user_signed_out(owner_client: Client) -> None:
    response = owner_client.post("/sign-out/", follow=True)
    page = html_of(response)

    assert page.count('<p class="notice notice-success" role="status">Signed out.</p>') == 1
    assert focused(page) == ["id_username"]
    url, _ = response.redirect_chain[-1]
    wrong = {"username": "owner@example.com", "password": "wrong"}
    for later in (owner_client.post(url, wrong), owner_client.get("/sign-in/")):
        assert "Signed out." not in html_of(later)


# ---- errors ----


@pytest.mark.parametrize(
    ("path", "form", "field"),
    [
        ("add/", NEW | {"description": ""}, "id_description"),
        ("add/", NEW | {"expiry": "date", "expires_on": "2020-01-01"}, "id_expires_on"),
        ("add/", NEW | {"description": "", "expiry": "date", "expires_on": "soon"}, "id_description"),
        ("{key}/rename/", {"description": ""}, "id_description"),
        ("{key}/revoke/", {"reason": "x" * 201}, "id_reason"),
        ("{key}/rotate/", {"overlap": "1h", "idempotency_key": "?"}, "p"),
    ],
)
def test_the_first_invalid_field_has_the_focus_and_the_title_says_error(
    owner_client: Client, api_key: ApiKey, keys_url: str, path: str, form: dict[str, str], field: str
) -> None:
    page = html_of(owner_client.post(keys_url + path.format(key=api_key.pk), form))

    assert focused(page) == [field]
    assert "<title>Error: " in page


def test_the_password_form_focuses_the_first_invalid_field(owner_client: Client) -> None:
    wrong = {"old_password": "owner-password", "new_password1": "short", "new_password2": "short"}

    page = html_of(owner_client.post("/settings/password/", wrong))

    assert focused(page) == ["id_new_password2"]
    assert "<title>Error: Change password" in page


def test_a_failed_sign_in_says_error_in_the_title(client: Client, owner: User) -> None:
    page = html_of(client.post("/sign-in/", {"username": owner.email, "password": "wrong"}))

    assert "<title>Error: Sign in" in page
    assert focused(page) == ["id_username"]


# ---- the list ----


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


# ---- revoking a key that is in use ----


def test_a_key_in_use_is_revoked_only_with_its_description(
    owner_client: Client, workspace: Workspace, keys_url: str
) -> None:
    api_key, _ = make_key(workspace, "Café, production")
    url = f"{keys_url}{api_key.pk}/revoke/"
    api_key.current_secret.record_use("203.0.113.7")
    assert "Type the description to confirm" in html_of(owner_client.get(url))

    for typed, message in [
        (None, "Type the description to confirm that you want to revoke a key that is in use."),
        ("Cafe, production", "This is not the key's description."),
        ("x" * 101, "at most 100 characters"),
    ]:
        form = {"reason": "Leaked in a log"} | ({} if typed is None else {"confirmation": typed})
        page = html_of(owner_client.post(url, form))
        assert message in unescape(page)
        assert focused(page) == ["id_confirmation"]
        assert 'value="Leaked in a log"' in page
        assert ApiKey.objects.get().status == "active"

    owner_client.post(url, {"confirmation": "  café, PRODUCTION ", "reason": "Leaked in a log"})
    assert ApiKey.objects.get().status == "revoked"


@pytest.mark.parametrize(("hours", "asked"), [(23, True), (25, False)])
def test_the_description_is_asked_for_a_day_after_the_last_use_of_any_secret_that_works(
    owner_client: Client, api_key: ApiKey, key_url: str, hours: int, asked: bool
) -> None:
    api_key.rotate(overlap=timedelta(days=1), by=BY_TEST)
    last_use = timezone.now() - timedelta(hours=hours)
    StoredSecret.objects.filter(api_key=api_key, replaced_at__isnull=False).update(last_used_at=last_use)

    for url in (key_url, f"{key_url}revoke/"):
        assert ('name="confirmation"' in html_of(owner_client.get(url))) == asked


# ---- the first request with a secret ----


def test_the_first_request_is_shown_as_a_fragment(owner_client: Client, api_key: ApiKey, key_url: str) -> None:
    def fragment() -> str:
        key_id = ApiKey.objects.get().current_secret.key_id
        return text_of(html_of(owner_client.get(f"{key_url}first-request/{key_id}/")))

    assert fragment() == "Waiting for the first request…"
    api_key.current_secret.record_use("203.0.113.7")
    assert fragment() == "Received from 203.0.113.7. The key works."

    api_key.rotate(overlap=timedelta(days=1), by=BY_TEST)
    assert fragment() == "Waiting for the first request with the new secret…"
    ApiKey.objects.get().current_secret.record_use(None)
    assert fragment() == "First request received. The key works."
    other = make_key(api_key.workspace)[0].current_secret.key_id
    assert owner_client.get(f"{key_url}first-request/{other}/").status_code == 404


def test_a_key_that_is_revoked_already_needs_no_description(
    owner_client: Client, api_key: ApiKey, key_url: str
) -> None:
    api_key.current_secret.record_use("203.0.113.7")
    api_key.revoke(by=BY_TEST)

    assert owner_client.post(f"{key_url}revoke/", {"reason": "x" * 201})["Location"] == key_url


def test_an_expired_key_is_revoked_without_its_description(owner_client: Client, api_key: ApiKey, key_url: str) -> None:
    api_key.current_secret.record_use("203.0.113.7")
    ApiKey.objects.update(expires_at=timezone.now() - timedelta(seconds=1))

    page = text_of(html_of(owner_client.get(f"{key_url}revoke/")))
    owner_client.post(f"{key_url}revoke/", {"reason": ""})

    assert "Requests with this key already fail, because it has expired." in page
    assert ApiKey.objects.get().status == "revoked"


def test_the_hint_of_each_field_describes_it(
    owner_client: Client, api_key: ApiKey, keys_url: str, key_url: str
) -> None:
    api_key.current_secret.record_use("203.0.113.7")

    for url, fields in [
        (f"{keys_url}add/", ["id_description"]),
        (f"{key_url}revoke/", ["id_confirmation", "id_reason"]),
        ("/settings/password/", ["id_new_password1"]),
    ]:
        page = html_of(owner_client.get(url))
        assert re.findall(r'<p class="hint" id="(\w+)_helptext">', page) == fields
        for field in fields:
            assert re.search(rf'<input[^>]*aria-describedby="{field}_helptext"[^>]*id="{field}"', page)


def test_keys_of_a_suspended_workspace_can_not_be_rotated_on_the_page(
    owner_client: Client, workspace: Workspace, api_key: ApiKey, key_url: str
) -> None:
    workspace.suspend("Unpaid invoices", by=BY_TEST)

    page = html_of(owner_client.get(key_url))

    assert '<button disabled aria-describedby="suspended">Rotate</button>' in page
    assert f'href="{key_url}rotate/"' not in page


def test_saving_the_same_description_says_so(owner_client: Client, api_key: ApiKey, key_url: str) -> None:
    page = html_of(owner_client.post(f"{key_url}rename/", {"description": api_key.description}, follow=True))

    assert "The key has this description already." in page
    assert focused(page) == ["h1"]
