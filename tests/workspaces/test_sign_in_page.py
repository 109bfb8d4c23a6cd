"""What the pages for signing in and changing the password confirm and show after an error."""

from __future__ import annotations

import re

from django.test import Client

from tests.helpers import focused, html_of
from workspaces.models import User


def test_the_sign_in_page_confirms_that_the_user_signed_out(owner_client: Client) -> None:
    response = owner_client.post("/sign-out/", follow=True)
    page = html_of(response)

    assert page.count('<p class="notice notice-success" role="status">Signed out.</p>') == 1
    assert focused(page) == ["id_username"]
    url, _ = response.redirect_chain[-1]
    wrong = {"username": "owner@example.com", "password": "wrong"}
    for later in (owner_client.post(url, wrong), owner_client.get("/sign-in/")):
        assert "Signed out." not in html_of(later)


def test_a_failed_sign_in_says_error_in_the_title(client: Client, owner: User) -> None:
    page = html_of(client.post("/sign-in/", {"username": owner.email, "password": "wrong"}))

    assert "<title>Error: Sign in" in page
    assert focused(page) == ["id_username"]


def test_the_password_form_focuses_the_first_invalid_field(owner_client: Client) -> None:
    wrong = {"old_password": "owner-password", "new_password1": "short", "new_password2": "short"}

    page = html_of(owner_client.post("/settings/password/", wrong))

    assert focused(page) == ["id_new_password2"]
    assert "<title>Error: Change password" in page


def test_the_hint_of_the_password_form_describes_its_field(owner_client: Client) -> None:
    page = html_of(owner_client.get("/settings/password/"))

    assert re.findall(r'<p class="hint" id="(\w+)_helptext">', page) == ["id_new_password1"]
    assert re.search(r'<input[^>]*aria-describedby="id_new_password1_helptext"[^>]*id="id_new_password1"', page)
