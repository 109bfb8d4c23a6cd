"""The endpoints for programs: how a client authenticates, and which errors it gets. All responses are JSON."""

from __future__ import annotations

import base64
import io
from typing import Any
from urllib.parse import urlencode

import pytest
from django.test import Client
from oauth2_provider.models import AccessToken

from oauth.models import Application
from tests.helpers import sign_in
from tests.oauth.conftest import CALLBACK, make_application
from tests.oauth.program import VERIFIER, Program
from workspaces.models import User, Workspace

pytestmark = pytest.mark.django_db

FORM = "application/x-www-form-urlencoded"
ENDPOINTS = ["token", "revoke", "device"]
# For each endpoint, parameters that are valid but for the client and its credentials.
PARAMETERS = {
    "token": {"grant_type": "refresh_token", "refresh_token": "x"},
    "revoke": {"token": "x"},
    "device": {"scope": "openid"},
}

for_each_endpoint = pytest.mark.parametrize("endpoint", ENDPOINTS)


def basic(client_id: str, secret: str, scheme: str = "Basic") -> dict[str, str]:
    credentials = base64.b64encode(f"{client_id}:{secret}".encode()).decode()
    return {"Authorization": f"{scheme} {credentials}"}


def send(endpoint: str, headers: dict[str, str] | None = None, /, **parameters: str) -> Any:
    return send_body(endpoint, urlencode(PARAMETERS[endpoint] | parameters), headers=headers or {})


def send_body(endpoint: str, body: str | bytes, content_type: str = FORM, **options: Any) -> Any:
    client = Client(raise_request_exception=False)
    response = client.post(f"/app/auth/{endpoint}", body, content_type, **options)
    assert response["Content-Type"] == "application/json"
    return response


def error_of(response: Any) -> tuple[int, str]:
    """Return the status and the error. Its description must be ASCII without quotes (RFC 6749, 5.2)."""
    description = response.json().get("error_description", "")
    assert description.isascii()
    assert not set(description) & {'"', "\\"}
    return response.status_code, response.json()["error"]


@pytest.fixture
def server() -> Application:
    """A confidential client of both flows' endpoints."""
    options = {"client_type": Application.CLIENT_CONFIDENTIAL, "client_secret": "s3cret"}
    return make_application("Server", authorization_grant_type=Application.GRANT_DEVICE_CODE, **options)


# ---- client authentication ----


@for_each_endpoint
def test_a_failed_client_gets_401_with_a_basic_challenge(endpoint: str, server: Application) -> None:
    wrong = [
        send(endpoint, basic(server.client_id, "guess")),
        send(endpoint, basic(server.client_id, "")),
        send(endpoint, basic("nobody", "guess")),
        send(endpoint, basic(server.client_id, "s3cret"), client_id="terminal"),
        send(endpoint, {"Authorization": "Basic !"}, client_id=server.client_id),
        send(endpoint, client_id=server.client_id, client_secret="guess"),
        send(endpoint, client_id=server.client_id),
        send(endpoint, client_id="nobody"),
    ]

    assert {error_of(response) for response in wrong} == {(401, "invalid_client")}
    assert {response["WWW-Authenticate"] for response in wrong} == {'Basic realm="onehorizon"'}


@for_each_endpoint
@pytest.mark.parametrize("header", ["Basic !", "Basic /w==", basic("nobody\0", "guess")["Authorization"]])
def test_a_malformed_basic_header_is_rejected(endpoint: str, header: str) -> None:
    response = send(endpoint, {"Authorization": header})

    # The device endpoint needs the header for the client id, and misses that first.
    assert error_of(response) == ((400, "invalid_request") if endpoint == "device" else (401, "invalid_client"))


@for_each_endpoint
@pytest.mark.parametrize("scheme", ["Basic", "basic"])
def test_a_confidential_client_authenticates_without_a_client_id_in_the_body(
    endpoint: str, scheme: str, server: Application
) -> None:
    response = send(endpoint, basic(server.client_id, "s3cret", scheme))

    # There is no refresh token "x".
    assert response.status_code == 200 or error_of(response) == (400, "invalid_grant")


def test_a_public_client_can_send_an_empty_secret_in_a_basic_header(
    application: Application, owner: User, workspace: Workspace
) -> None:
    """Some libraries send it although the client has none."""
    program = Program(application, sign_in(owner))
    header = basic(application.client_id, "")
    exchange = {"grant_type": "authorization_code", "code_verifier": VERIFIER, "redirect_uri": CALLBACK}

    tokens = send("token", header, code=program.code(), **exchange).json()
    refreshed = send("token", header, refresh_token=tokens["refresh_token"]).json()
    send("revoke", header, token=refreshed["refresh_token"])

    assert refreshed["access_token"]
    assert not AccessToken.objects.exists()


def test_a_terminal_can_send_an_empty_secret_in_a_basic_header(owner: User, workspace: Workspace) -> None:
    header, program = basic("terminal", ""), Program(Application.objects.get(client_id="terminal"), sign_in(owner))
    codes = send("device", header).json()
    program.decide_device(codes["user_code"], allow="yes")

    grant_type = "urn:ietf:params:oauth:grant-type:device_code"
    response = send("token", header, grant_type=grant_type, device_code=codes["device_code"])

    assert response.status_code == 200


def test_a_public_client_with_a_wrong_secret_is_rejected(application: Application) -> None:
    assert error_of(send("token", basic(application.client_id, "guess"))) == (401, "invalid_client")


def test_failed_device_requests_count_as_failed_authentications(server: Application, settings: Any) -> None:
    settings.APIKEYS_FAILURES_PER_MINUTE = 2

    responses = [send("device", client_id=server.client_id, client_secret="guess") for _ in range(3)]

    assert [response.status_code for response in responses] == [401, 401, 429]
    assert error_of(responses[-1]) == (429, "temporarily_unavailable")


def test_revoking_returns_an_empty_object(application: Application) -> None:
    response = send("revoke", client_id=application.client_id)

    assert (response.status_code, response.json()) == (200, {})


# ---- malformed requests ----


@for_each_endpoint
@pytest.mark.parametrize("content_type", ["application/json", "multipart/form-data; boundary=x", "text/plain", ""])
def test_a_body_of_another_content_type_gets_a_helpful_message(endpoint: str, content_type: str) -> None:
    response = send_body(endpoint, '{"grant_type": "refresh_token"}', content_type)

    assert error_of(response) == (400, "invalid_request")
    assert "application/x-www-form-urlencoded" in response.json()["error_description"]


@for_each_endpoint
@pytest.mark.parametrize("query", ["client_id=terminal", "x=%zz", "x"])
def test_a_query_string_is_rejected(endpoint: str, query: str) -> None:
    assert error_of(send_body(f"{endpoint}?{query}", "client_id=terminal")) == (400, "invalid_request")


@pytest.mark.parametrize(
    ("endpoint", "name"),
    [
        *(("token", name) for name in ("client_id", "client_secret", "code", "refresh_token", "device_code", "scope")),
        *(("revoke", name) for name in ("client_id", "token", "token_type_hint")),
        *(("device", name) for name in ("client_id", "scope")),
    ],
)
def test_a_nul_character_is_rejected(endpoint: str, name: str) -> None:
    response = send(endpoint, **({"client_id": "terminal"} | {name: "x\0"}))

    assert error_of(response) == (400, "invalid_request")
    assert response.json()["error_description"] == "A parameter contains a NUL character."


@for_each_endpoint
def test_a_body_that_is_too_large_cut_or_has_too_many_parameters_is_rejected(endpoint: str) -> None:
    cut: dict[str, Any] = {"CONTENT_LENGTH": "9", "wsgi.input": io.BytesIO(b"token=x")}

    assert error_of(send_body(endpoint, b"x" * 3_000_000)) == (413, "invalid_request")
    assert error_of(send_body(endpoint, b"token=x", **cut)) == (400, "invalid_request")
    assert error_of(send_body(endpoint, "&".join(f"x{n}=1" for n in range(2000)))) == (400, "invalid_request")


@pytest.mark.parametrize("endpoint", ["token", "revoke"])
@pytest.mark.parametrize("method", ["GET", "PUT", "OPTIONS", "BREW"])
def test_another_method_is_405(endpoint: str, method: str) -> None:
    response = Client().generic(method, f"/app/auth/{endpoint}")

    assert error_of(response) == (405, "invalid_request")
    assert response["Allow"] == "POST"


@for_each_endpoint
def test_plain_http_is_rejected_and_not_redirected(endpoint: str, settings: Any) -> None:
    """A client that follows the redirect sends a GET, and would never learn why that fails."""
    settings.SECURE_SSL_REDIRECT = True

    response = send(endpoint, client_id="terminal")

    assert error_of(response) == (403, "invalid_request")
    assert response.json()["error_description"].startswith("Send this request over https")


@for_each_endpoint
def test_an_unknown_host_is_rejected(endpoint: str) -> None:
    assert error_of(send(endpoint, {"Host": "evil.example"})) == (400, "invalid_request")
