"""Password guessing is limited per client IP and per account, and does not lock people out of known browsers."""

from __future__ import annotations

import pytest
from django.test import Client, RequestFactory
from hypothesis import example, given
from hypothesis import strategies as st

from core.ratelimits import limit_form_by_ip
from tests.helpers import make_user, send_form
from workspaces.models import User, Workspace

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("_frozen_clock")]

OWNER = "owner@example.com"
WRONG = "a wrong guess"


def attempt(client: Client, email: str = OWNER, password: str = WRONG, client_ip: str = "203.0.113.7") -> int:
    fields = {"username": email, "password": password}
    status: int = client.post("/sign-in/", fields, REMOTE_ADDR=client_ip).status_code
    return status


def attempt_with_correct_password(client: Client, client_ip: str = "203.0.113.7") -> int:
    return attempt(client, password="owner-password", client_ip=client_ip)


@pytest.fixture
def browser(owner: User, workspace: Workspace) -> Client:
    """A browser in which the owner has signed in before."""
    client = Client()
    assert attempt_with_correct_password(client, "192.0.2.1") == 302
    client.post("/sign-out/")
    return client


def guess_passwords(times: int = 10) -> list[int]:
    """Send wrong passwords, each from a different client IP, and return the statuses."""
    return [attempt(Client(), client_ip=f"198.51.100.{number}") for number in range(times)]


# ---- limits ----


def test_an_account_allows_ten_attempts_in_five_minutes(owner: User) -> None:
    assert guess_passwords(12) == [200] * 10 + [429] * 2
    assert attempt_with_correct_password(Client()) == 429


def test_the_name_of_an_account_can_not_change_what_is_counted(db: None) -> None:
    statuses = [attempt(Client(), "ip", client_ip=f"198.51.100.{number}") for number in range(11)]

    assert statuses == [200] * 10 + [429]


def test_a_client_ip_has_sixty_attempts_in_five_minutes(db: None) -> None:
    statuses = [attempt(Client(), f"person-{number}@example.com") for number in range(62)]

    assert statuses == [200] * 60 + [429] * 2


def test_ipv6_clients_of_one_64_network_share_a_limit(db: None) -> None:
    statuses = [attempt(Client(), f"person-{n}@example.com", client_ip=f"2001:db8::{n:x}") for n in range(61)]

    assert statuses[-1] == 429
    assert attempt(Client(), "another@example.com", client_ip="2001:db8:0:1::1") == 200


def test_the_64_networks_of_one_48_network_share_a_limit_that_is_eight_times_as_large(owner: User) -> None:
    for number in range(480):
        client = RequestFactory().post("/sign-in/", REMOTE_ADDR=f"2001:db8:1:{number:x}::1")
        limit_form_by_ip(client, "sign-in", "60/5m")

    assert attempt_with_correct_password(Client(), "2001:db8:1:ffff::1") == 429
    assert attempt_with_correct_password(Client(), "2001:db8:2::1") == 302


FULLWIDTH = "".join(chr(ord(letter) + 0xFEE0) for letter in "owner@example.com")
SPELLINGS = ["OWNER@example.com", "  owner@example.com ", "owner@example.com\u00a0", "\u2000owner@example.com"]


@pytest.mark.parametrize("spelling", [*SPELLINGS, FULLWIDTH, f"{FULLWIDTH[:5]}@example.com", "\u00bawner@example.com"])
def test_another_spelling_of_the_email_is_the_same_account(spelling: str, owner: User, workspace: Workspace) -> None:
    assert attempt(Client(), spelling, "owner-password") == 302
    guess_passwords(9)

    assert attempt(Client(), spelling) == 429


@pytest.mark.parametrize("spelling", [*SPELLINGS, f"{FULLWIDTH[:5]}@example.com"])
def test_a_user_who_was_created_with_another_spelling_can_sign_in(spelling: str, db: None) -> None:
    User.objects.create_user(spelling, "Owner", "owner-password")

    assert attempt(Client(), OWNER, "owner-password") == 302


@given(st.text())
@example("J\u030c@example.com")  # in lower case, letter and mark are one character
def test_normalizing_an_email_twice_changes_nothing(email: str) -> None:
    once = User.objects.normalize_email(email)

    assert User.objects.normalize_email(once) == once


def test_an_email_that_is_too_long_is_rejected_without_normalization(db: None) -> None:
    """Unicode normalization of this email would take minutes."""
    assert attempt(Client(), "a" + "\u0300" * 100_000 + "\u0327" * 100_000) == 200


def test_other_counts_do_not_evict_the_count_of_an_account(owner: User) -> None:
    assert guess_passwords(11)[-1] == 429

    for number in range(400):
        send_form("/app/auth/device", {"client_id": "x"}, REMOTE_ADDR=f"2001:db8:{number:x}::1")

    assert attempt_with_correct_password(Client()) == 429


# ---- known browsers ----


def test_guessing_does_not_lock_a_person_out_of_a_known_browser(browser: Client) -> None:
    assert guess_passwords(12)[-1] == 429

    assert attempt_with_correct_password(browser) == 302


def test_guessing_from_the_same_client_ip_does_not_lock_a_person_out_of_a_known_browser(browser: Client) -> None:
    statuses = [attempt(Client(), f"person-{n}@example.com", client_ip="192.0.2.1") for n in range(61)]
    assert statuses[-1] == 429

    assert attempt_with_correct_password(browser, "192.0.2.1") == 302


def test_a_known_browser_has_ten_attempts_of_its_own(browser: Client) -> None:
    assert [attempt(browser) for _ in range(12)] == [200] * 10 + [429] * 2
    assert attempt_with_correct_password(browser) == 429
    assert attempt_with_correct_password(Client()) == 302


def test_the_known_browsers_of_an_account_have_sixty_attempts_together(browser: Client) -> None:
    """Each sign-in makes another browser known: without this limit a person could run Argon2 endlessly."""
    statuses = []
    for _ in range(61):
        copy = Client()
        copy.cookies["device"] = browser.cookies["device"].value
        statuses.append(attempt_with_correct_password(copy))
        browser = copy

    assert statuses == [302] * 60 + [429]


def test_a_browser_is_known_for_one_person_only(browser: Client, owner: User) -> None:
    make_user("another")

    assert [attempt(browser, "another@example.com") for _ in range(11)] == [200] * 10 + [429]
    assert attempt_with_correct_password(browser) == 302


@pytest.mark.parametrize(
    "change", [lambda text: text[:-1], lambda text: f"x{text}", lambda text: "", lambda text: ":::"]
)
def test_a_changed_cookie_is_ignored(change, browser: Client) -> None:  # type: ignore[no-untyped-def]
    browser.cookies["device"] = change(browser.cookies["device"].value)
    guess_passwords()

    assert attempt_with_correct_password(browser) == 429


def test_the_cookie_is_http_only_and_sent_to_the_sign_in_page_only(browser: Client) -> None:
    cookie = browser.cookies["device"]

    assert (cookie["path"], cookie["httponly"], cookie["samesite"]) == ("/sign-in/", True, "Lax")
    assert OWNER not in cookie.value
    assert Client(headers={"Cookie": f"sessionid={cookie.value}"}).get("/workspaces/").status_code == 302


def test_each_sign_in_sets_a_new_cookie(browser: Client) -> None:
    before = browser.cookies["device"].value

    attempt_with_correct_password(browser)

    assert browser.cookies["device"].value != before


def test_an_attempt_without_a_client_ip_causes_no_error(owner: User) -> None:
    """A server behind a Unix socket has no client IP."""
    assert attempt(Client(), client_ip="") == 200
