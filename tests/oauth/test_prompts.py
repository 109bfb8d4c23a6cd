"""`prompt` and `max_age`: a client forbids pages, or wants the user to sign in again (OpenID Connect Core, 3.1.2.1)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from time_machine import TimeMachineFixture

from oauth.models import Application
from tests.oauth.program import Program, redirected_error
from workspaces.models import User, Workspace


@pytest.fixture
def program(application: Application, owner: User, workspace: Workspace) -> Program:
    return Program(application, Client())


def sign_in_at(program: Program, url: str, email: str = "owner@example.com") -> Any:
    password = f"{email.partition('@')[0]}-password"
    return program.browser.post(url, {"username": email, "password": password})


def open_request(program: Program, **parameters: str) -> Any:
    return program.browser.get("/app/auth/authorize", program.request("openid") | parameters)


def is_consent_page(response: Any) -> bool:
    return response.status_code == 200 and b"to access your account?" in response.content


def test_prompt_none_never_shows_a_page(program: Program) -> None:
    signed_out = open_request(program, prompt="none")
    sign_in_at(program, "/sign-in/")
    signed_in = open_request(program, prompt="none")

    assert redirected_error(signed_out) == "login_required"
    assert redirected_error(signed_in) == "consent_required"


@pytest.mark.parametrize("prompt", ["login", "select_account", "login consent"])
def test_a_user_signs_in_again_once_although_signed_in(program: Program, prompt: str) -> None:
    sign_in_at(program, "/sign-in/")

    to_sign_in = open_request(program, prompt=prompt)
    page = program.browser.get(to_sign_in["Location"])
    rejected = program.browser.post(to_sign_in["Location"], {"username": "owner@example.com", "password": "wrong"})
    signed_in = sign_in_at(program, to_sign_in["Location"])

    assert to_sign_in["Location"].startswith("/sign-in/")
    assert "You are signed in as owner@example.com." in page.content.decode()
    assert rejected.status_code == 200, "the session alone is not enough"
    assert is_consent_page(program.browser.get(signed_in["Location"]))


@pytest.mark.parametrize("prompt", ["login", "select_account", "login consent"])
def test_a_user_who_is_signed_out_signs_in_once(program: Program, prompt: str) -> None:
    to_sign_in = open_request(program, prompt=prompt)

    signed_in = sign_in_at(program, to_sign_in["Location"])

    assert is_consent_page(program.browser.get(signed_in["Location"]))


def test_another_user_can_sign_in(program: Program, member: User) -> None:
    sign_in_at(program, "/sign-in/")
    to_sign_in = open_request(program, prompt="select_account")

    signed_in = sign_in_at(program, to_sign_in["Location"], "member@example.com")

    page = program.browser.get(signed_in["Location"])
    assert is_consent_page(page)
    assert page.context["user"] == member


def test_the_other_parameters_survive_the_sign_in(program: Program) -> None:
    to_sign_in = open_request(program, prompt="login consent", state="a b&c", max_age="0")

    location = sign_in_at(program, to_sign_in["Location"])["Location"]

    assert "state=a+b%26c" in location
    assert "prompt=consent" in location
    assert "max_age" not in location


@pytest.mark.usefixtures("_frozen_clock")
def test_a_sign_in_older_than_max_age_is_repeated(program: Program, time_machine: TimeMachineFixture) -> None:
    sign_in_at(program, "/sign-in/")
    time_machine.shift(timedelta(seconds=61))

    recent_enough = open_request(program, max_age="120")
    too_old = open_request(program, max_age="60")
    silent = open_request(program, max_age="60", prompt="none")
    signed_in = sign_in_at(program, too_old["Location"])

    assert is_consent_page(recent_enough)
    assert redirected_error(silent) == "login_required"
    assert is_consent_page(program.browser.get(signed_in["Location"]))
