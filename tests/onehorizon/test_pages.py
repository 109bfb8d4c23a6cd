"""How a page fails: in the product's dress, with the right status, changing nothing."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import path

from apikeys.models import ApiKey
from onehorizon.urls import handler400, handler403, handler404, handler500, urlpatterns
from tests.helpers import PATIENCE, free_port, server
from workspaces.models import User, Workspace

__all__ = ["handler400", "handler403", "handler404", "handler500"]


def broken(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("one_8kJ2mQ4xZt7c_ is none of the reader's business")


urlpatterns = [*urlpatterns, path("broken/", broken)]


@pytest.fixture
def page(owner: User) -> Client:
    client = Client(raise_request_exception=False)
    client.force_login(owner)
    return client


@pytest.fixture
def keys_url(workspace: Workspace) -> str:
    return f"/w/{workspace.pk}/settings/developer/api-keys/"


@pytest.mark.parametrize("there", ["add/", "find/", "{key}/rename/", "{key}/revoke/"])
def test_a_form_without_its_token_changes_nothing(owner: User, api_key: ApiKey, keys_url: str, there: str) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(owner)
    form = {"description": "Forged", "expiry": "never", "idempotency_key": "a" * 32, "text": "x"}

    answer = strict.post(keys_url + there.format(key=api_key.pk), form)

    assert answer.status_code == 403
    assert "This form is out of date" in answer.content.decode()
    assert [(key.description, key.status) for key in ApiKey.objects.all()] == [("CI, production", "active")]


def test_every_form_that_changes_something_carries_a_token(page: Client, api_key: ApiKey, keys_url: str) -> None:
    for address in (keys_url, f"{keys_url}add/", f"{keys_url}{api_key.pk}/", f"{keys_url}{api_key.pk}/revoke/"):
        forms = re.findall(r"<form[^>]*method=\"post\".*?</form>", page.get(address).content.decode(), re.DOTALL)

        assert forms
        assert all("csrfmiddlewaretoken" in form for form in forms)


@pytest.mark.parametrize("there", ["find/", "{key}/rename/"])
def test_what_only_takes_a_form_refuses_to_be_opened(page: Client, api_key: ApiKey, keys_url: str, there: str) -> None:
    assert page.get(keys_url + there.format(key=api_key.pk)).status_code == 405


@pytest.mark.parametrize("idempotency_key", ["", "x", "A" * 32, "a" * 33, "\x00" * 32])
def test_a_form_with_a_bad_idempotency_key_says_so(
    page: Client, workspace: Workspace, keys_url: str, idempotency_key: str
) -> None:
    answer = page.post(f"{keys_url}add/", {"description": "CI", "expiry": "never", "idempotency_key": idempotency_key})

    assert "This form is incomplete" in answer.content.decode()
    assert not workspace.api_keys.exists()


@pytest.mark.parametrize(
    "query", ["?q=%00", "?page=99999999999999999999", "?page=x&status=y", "?secret=%00", "?q=_&status=all"]
)
def test_a_made_up_address_of_the_list_is_still_the_list(
    page: Client, api_key: ApiKey, keys_url: str, query: str
) -> None:
    assert page.get(keys_url + query).status_code == 200


@pytest.mark.parametrize("text", ["", "\x00", "x" * 501, "one_" + "A" * 400])
def test_a_search_for_nonsense_comes_back_to_the_list(page: Client, api_key: ApiKey, keys_url: str, text: str) -> None:
    assert page.post(f"{keys_url}find/", {"text": text}, follow=True).status_code == 200


@pytest.mark.parametrize(
    ("address", "status", "words"),
    [("/nothing/", 404, "Not found"), ("/broken/", 500, "Something went wrong")],
)
def test_errors_wear_the_products_dress(settings: Any, page: Client, address: str, status: int, words: str) -> None:
    settings.ROOT_URLCONF = __name__

    answer = page.get(address)

    assert answer.status_code == status
    assert words in answer.content.decode()
    assert "none of the reader's business" not in answer.content.decode()
    assert answer["Cache-Control"] == "no-store"


def test_a_host_that_is_not_ours_is_refused(page: Client) -> None:
    answer = page.get("/sign-in/", headers={"Host": "evil.example"})

    assert answer.status_code == 400
    assert "Invalid request" in answer.content.decode()


def test_without_the_database_a_page_says_to_come_back(tmp_path: Path, db: None) -> None:
    away = f"postgres://nobody@127.0.0.1:{free_port()}/nowhere"
    with server(tmp_path / "log", DATABASE_URL=away) as site:
        request = urllib.request.Request(
            f"{site}/settings/developer/api-keys/", headers={"Cookie": "sessionid=" + "x" * 32}
        )

        with pytest.raises(urllib.error.HTTPError) as answer:
            urllib.request.urlopen(request, timeout=PATIENCE)

    with answer.value as error:
        assert error.code == 503
        assert error.headers["Retry-After"] == "5"
        assert "Temporarily unavailable" in error.read().decode()


@pytest.mark.usefixtures("_frozen_clock")
def test_too_many_forms_are_refused_with_a_time_to_try_again(page: Client, api_key: ApiKey, keys_url: str) -> None:
    answers = [page.post(f"{keys_url}find/", {"text": "x"}) for _ in range(61)]

    assert [answer.status_code for answer in answers[-2:]] == [302, 429]
    assert 1 <= int(answers[-1]["Retry-After"]) <= 60
    assert "Too many attempts" in answers[-1].content.decode()


def test_the_current_workspace_of_who_has_chosen_none_leads_to_a_choice(outsider: User) -> None:
    client = Client()
    client.force_login(outsider)

    assert client.get("/w/current/settings/developer/api-keys/")["Location"] == "/workspaces/"


@pytest.mark.parametrize("there", ["/sign-in/", "/sign-in/?next=/sign-in/"])
def test_signing_in_leads_to_no_second_sign_in(page: Client, owner: User, there: str) -> None:
    assert page.get("/sign-in/", {"next": there})["Location"] == "/"
    answer = Client().post(f"/sign-in/?next={there}", {"username": owner.email, "password": "owner-password"})
    assert answer["Location"] == "/"


@pytest.mark.parametrize(
    "address",
    ["/app/auth/authorize?client_id=%00&response_type=code", "/app/auth/device?user_code=%00"],
)
def test_a_nul_is_nobody_and_breaks_nothing(page: Client, workspace: Workspace, address: str) -> None:
    assert page.get(address).status_code in (400, 404)
