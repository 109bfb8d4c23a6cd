"""The device flow (RFC 8628): a terminal requests a code, and a person decides in a browser."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import requests
from django.db.models import F
from django.utils import timezone
from django.utils.html import strip_tags
from time_machine import TimeMachineFixture

from oauth.models import Application, DeviceGrant
from oauth.server import DEVICE_CODE
from tests.helpers import BY_TEST, sign_in
from tests.oauth.conftest import Browser, make_application
from tests.oauth.program import Program
from tests.processes import TIMEOUT
from workspaces.models import User, Workspace


class Terminal:
    """The built-in client for terminals."""

    def __init__(self, metadata: dict[str, Any]) -> None:
        self.metadata = metadata
        self.codes: dict[str, Any] = {}

    def start(self, client_id: str = "terminal", **fields: str) -> requests.Response:
        form = {"client_id": client_id, "scope": "workspace:read api-keys:manage"} | fields
        response = requests.post(self.metadata["device_authorization_endpoint"], form, timeout=TIMEOUT)
        self.codes = response.json()
        return response

    def request_token(self, **fields: str) -> requests.Response:
        form = {"client_id": "terminal", "grant_type": DEVICE_CODE, "device_code": self.codes.get("device_code", "")}
        return requests.post(self.metadata["token_endpoint"], form | fields, timeout=TIMEOUT)

    def token_error(self, **fields: str) -> str:
        response = self.request_token(**fields)
        assert response.status_code == 400, response.text
        return str(response.json()["error"])


@pytest.fixture
def terminal(metadata: dict[str, Any]) -> Terminal:
    return Terminal(metadata)


def advance_poll_clock(seconds: int) -> None:
    """Simulate that `seconds` pass between two polls, by moving the time of the last poll back."""
    DeviceGrant.objects.update(last_checked=F("last_checked") - timedelta(seconds=seconds))


def test_an_approved_terminal_creates_a_key(terminal: Terminal, browser: Browser, site: str) -> None:
    codes = terminal.start().json()
    assert codes["verification_uri"] == f"{site}/app/auth/device"
    assert codes["verification_uri_complete"] == f"{site}/app/auth/device?user_code={codes['user_code']}"
    assert (codes["expires_in"], codes["interval"]) == (600, 5)
    assert terminal.token_error() == "authorization_pending"

    assert "Your terminal is connected" in browser.decide_device(codes["user_code"], allow="yes").text
    advance_poll_clock(5)
    token = terminal.request_token().json()

    assert token["scope"] == "workspace:read api-keys:manage"
    created = requests.post(
        f"{site}/api/v1/workspaces/current/api-keys",
        headers={"Authorization": f"Bearer {token['access_token']}"},
        json={"description": "From a terminal"},
        timeout=TIMEOUT,
    )
    assert created.status_code == 201


def test_the_token_is_issued_once(terminal: Terminal, browser: Browser) -> None:
    browser.decide_device(terminal.start().json()["user_code"], allow="yes")

    assert terminal.request_token().status_code == 200
    assert terminal.token_error() == "invalid_grant"


def test_a_terminal_refreshes_its_token(terminal: Terminal, browser: Browser) -> None:
    browser.decide_device(terminal.start().json()["user_code"], allow="yes")
    refresh_token = terminal.request_token().json()["refresh_token"]

    assert terminal.request_token(grant_type="refresh_token", refresh_token=refresh_token).status_code == 200


def test_polling_too_often_lengthens_the_interval(terminal: Terminal, browser: Browser) -> None:
    terminal.start()

    assert terminal.token_error() == "authorization_pending"
    assert terminal.token_error() == "slow_down"
    advance_poll_clock(6)
    assert terminal.token_error() == "slow_down"
    advance_poll_clock(15)
    assert terminal.token_error() == "authorization_pending"


def test_a_denied_request_returns_access_denied(terminal: Terminal, browser: Browser) -> None:
    page = browser.decide_device(terminal.start().json()["user_code"])

    assert "Access denied" in page.text
    assert terminal.token_error() == "access_denied"


def test_a_repeated_decision_is_404_and_changes_nothing(terminal: Terminal, browser: Browser) -> None:
    page = browser.open(terminal.start().json()["verification_uri_complete"])
    url = f"{browser.site}/app/auth/device/decision"

    assert browser.send(page, url, allow="yes").status_code == 200
    assert browser.send(page, url).status_code == 404
    assert terminal.request_token().status_code == 200


def test_a_code_without_a_decision_expires(terminal: Terminal, browser: Browser) -> None:
    user_code = terminal.start().json()["user_code"]
    DeviceGrant.objects.update(expires=timezone.now())

    assert browser.open(f"{browser.site}/app/auth/device?user_code={user_code}").status_code == 404
    assert terminal.token_error() == "expired_token"


@pytest.mark.parametrize("device_code", ["", "made-up"])
def test_an_unknown_device_code_is_rejected(terminal: Terminal, device_code: str) -> None:
    assert terminal.token_error(device_code=device_code) in ("invalid_grant", "invalid_request")


def test_a_device_code_of_another_client_is_rejected(terminal: Terminal, browser: Browser) -> None:
    other = make_application("Other", authorization_grant_type=Application.GRANT_DEVICE_CODE)
    browser.decide_device(terminal.start().json()["user_code"], allow="yes")

    assert terminal.token_error(client_id=other.client_id) == "invalid_grant"


@pytest.mark.parametrize(
    ("fields", "status"),
    [({"client_id": "nobody"}, 401), ({"client_id": ""}, 400), ({"scope": "everything"}, 400)],
)
def test_an_invalid_device_request_is_rejected(terminal: Terminal, fields: dict[str, str], status: int) -> None:
    response = terminal.start(**fields)

    assert response.status_code == status
    assert "device_code" not in response.json()


def test_a_web_application_can_not_use_the_device_flow(terminal: Terminal, application: Application) -> None:
    assert terminal.start(application.client_id).json() == {"error": "unauthorized_client"}


def test_the_client_id_is_read_from_the_body_only(metadata: dict[str, Any]) -> None:
    endpoint = metadata["device_authorization_endpoint"]

    response = requests.post(f"{endpoint}?client_id=terminal", {"scope": "workspace:read"}, timeout=TIMEOUT)

    assert response.status_code == 400


def test_the_page_accepts_a_code_as_people_type_it(terminal: Terminal, browser: Browser) -> None:
    user_code = terminal.start().json()["user_code"]

    page = browser.open(f"{browser.site}/app/auth/device?user_code={user_code.lower().replace('-', '%20')}")

    assert "One Horizon for terminals" in page.text
    assert user_code in page.text
    assert "List, create, rename, rotate and revoke API keys" in page.text


@pytest.mark.parametrize(
    ("terminal_ip", "sentences"),
    [
        ("203.0.113.7", ["client IP 203.0.113.7.", "Your browser has another one, 198.51.100.1."]),
        ("198.51.100.1", ["client IP 198.51.100.1.", "Your browser has the same client IP."]),
    ],
)
@pytest.mark.usefixtures("_frozen_clock")
def test_the_page_shows_when_and_from_where_the_terminal_asked(
    owner: User, workspace: Workspace, terminal_ip: str, sentences: list[str], time_machine: TimeMachineFixture
) -> None:
    """A person who was sent a code by someone else can see that the terminal is elsewhere."""
    terminal = Program(Application.objects.get(client_id="terminal"), sign_in(owner))
    user_code = terminal.start_device(REMOTE_ADDR=terminal_ip).json()["user_code"]
    time_machine.shift(timedelta(minutes=3))

    response = terminal.browser.get("/app/auth/device", {"user_code": user_code}, REMOTE_ADDR="198.51.100.1")

    page = strip_tags(response.content.decode())
    assert "Requested 3 minutes ago from the " in page
    assert [sentence for sentence in sentences if sentence not in page] == []


def test_a_client_secret_in_the_url_is_rejected(metadata: dict[str, Any], terminal: Terminal) -> None:
    """Proxies log URLs."""
    kind = {"client_type": Application.CLIENT_CONFIDENTIAL, "authorization_grant_type": Application.GRANT_DEVICE_CODE}
    server = make_application("Server", client_secret="s3cret", **kind)
    metadata["device_authorization_endpoint"] += "?client_secret=s3cret"

    response = terminal.start(server.client_id)

    assert response.status_code == 400
    assert response.json()["error_description"] == "Send the parameters in the body, not in the URL."


@pytest.mark.usefixtures("_frozen_clock")
def test_starting_device_requests_is_rate_limited(terminal: Terminal) -> None:
    statuses = [terminal.start().status_code for _ in range(61)]

    assert statuses == [200] * 60 + [429]


def test_the_page_without_a_code_has_a_form_to_enter_one(browser: Browser) -> None:
    assert "Enter the code" in browser.open(f"{browser.site}/app/auth/device").text


def test_the_page_requires_sign_in(site: str) -> None:
    response = requests.get(f"{site}/app/auth/device?user_code=BCDF-GHJK", allow_redirects=False, timeout=TIMEOUT)

    assert response.headers["Location"] == "/sign-in/?next=/app/auth/device%3Fuser_code%3DBCDF-GHJK"


@pytest.mark.usefixtures("_frozen_clock")
def test_guessing_user_codes_is_rate_limited(browser: Browser) -> None:
    statuses = [browser.open(f"{browser.site}/app/auth/device?user_code=BCDF-GHJK").status_code for _ in range(21)]

    assert statuses == [404] * 20 + [429]


def test_a_decision_can_not_be_changed(terminal: Terminal, browser: Browser, owner: User, member: User) -> None:
    terminal.start()
    grant = DeviceGrant.objects.get()

    assert grant.decide(owner, approved=False, by=BY_TEST)
    assert not grant.decide(member, approved=True, by=BY_TEST)
    assert DeviceGrant.objects.get().user == owner
    assert terminal.token_error() == "access_denied"
