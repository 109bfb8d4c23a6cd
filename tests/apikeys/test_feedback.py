"""What the pages of keys confirm, how they show errors and hints, and where the focus goes."""

from __future__ import annotations

import re

import pytest
from django.test import Client

from apikeys.models import ApiKey
from tests.helpers import focused, html_of

IDEMPOTENCY_KEY = "0" * 32
NEW = {"description": "CI, production", "expiry": "never", "idempotency_key": IDEMPOTENCY_KEY}


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


def test_saving_the_same_description_says_so(owner_client: Client, api_key: ApiKey, key_url: str) -> None:
    page = html_of(owner_client.post(f"{key_url}rename/", {"description": api_key.description}, follow=True))

    assert "The key has this description already." in page
    assert focused(page) == ["h1"]


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


def test_the_hint_of_each_field_describes_it(
    owner_client: Client, api_key: ApiKey, keys_url: str, key_url: str
) -> None:
    api_key.current_secret.record_use("203.0.113.7")

    for url, fields in [
        (f"{keys_url}add/", ["id_description"]),
        (f"{key_url}revoke/", ["id_confirmation", "id_reason"]),
    ]:
        page = html_of(owner_client.get(url))
        assert re.findall(r'<p class="hint" id="(\w+)_helptext">', page) == fields
        for field in fields:
            assert re.search(rf'<input[^>]*aria-describedby="{field}_helptext"[^>]*id="{field}"', page)
