"""The page that revokes a key, and asks for its description if the key is in use."""

from __future__ import annotations

from datetime import timedelta
from html import unescape

import pytest
from django.test import Client
from django.utils import timezone

from apikeys.forms import RevokeForm
from apikeys.models import ApiKey, StoredSecret
from tests.helpers import BY_TEST, focused, html_of, make_key, text_of
from workspaces.models import AuditEvent, Workspace


def test_a_key_is_revoked_with_a_reason_once(owner_client: Client, api_key: ApiKey, key_url: str) -> None:
    assert owner_client.get(f"{key_url}revoke/").status_code == 200

    for _ in range(2):
        assert owner_client.post(f"{key_url}revoke/", {"reason": "Leaked"})["Location"] == key_url

    assert owner_client.get(f"{key_url}revoke/")["Location"] == key_url
    assert "Revoked: “Leaked”" in owner_client.get(key_url).content.decode()
    assert AuditEvent.objects.filter(subject=api_key.pk, action="api_key.revoked").count() == 1


def test_an_invalid_reason_shows_an_error_and_revokes_nothing(
    owner_client: Client, api_key: ApiKey, secret: str, key_url: str
) -> None:
    response = owner_client.post(f"{key_url}revoke/", {"reason": f"It is {secret}"})

    assert "put a key in the reason; it isn" in response.content.decode()
    assert secret not in response.content.decode()
    assert ApiKey.objects.get().status == "active"


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


@pytest.mark.parametrize("description", ["CI,  production", "CI,\u00a0production"])
def test_the_description_is_typed_with_the_spacing_that_the_browser_shows(
    owner_client: Client, workspace: Workspace, keys_url: str, description: str
) -> None:
    """HTML collapses spaces, and what is selected on the page and pasted has only one too."""
    api_key, _ = make_key(workspace, description)
    api_key.current_secret.record_use("203.0.113.7")

    owner_client.post(f"{keys_url}{api_key.pk}/revoke/", {"confirmation": "CI, production", "reason": ""})

    assert ApiKey.objects.get().status == "revoked"


def test_the_form_escapes_the_description_for_any_template(workspace: Workspace) -> None:
    api_key, _ = make_key(workspace, "<b>CI</b>")
    api_key.current_secret.record_use("203.0.113.7")

    html = str(RevokeForm(api_key=ApiKey.objects.get()))

    assert "&lt;b&gt;CI&lt;/b&gt;" in html
    assert "<b>" not in html


@pytest.mark.parametrize(("hours", "asked"), [(23, True), (25, False)])
def test_the_description_is_asked_for_a_day_after_the_last_use_of_any_secret_that_works(
    owner_client: Client, api_key: ApiKey, key_url: str, hours: int, asked: bool
) -> None:
    api_key.rotate(overlap=timedelta(days=1), by=BY_TEST)
    last_use = timezone.now() - timedelta(hours=hours)
    StoredSecret.objects.filter(api_key=api_key, replaced_at__isnull=False).update(last_used_at=last_use)

    for url in (key_url, f"{key_url}revoke/"):
        assert ('name="confirmation"' in html_of(owner_client.get(url))) == asked


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
