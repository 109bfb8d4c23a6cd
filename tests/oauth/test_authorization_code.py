"""The authorization code flow over HTTP, with Authlib as the client."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from django.utils import timezone
from oauth2_provider.models import RefreshToken

from oauth.models import Application, Grant
from tests.helpers import send_form
from tests.oauth.conftest import CALLBACK, Browser, code_in, error_in, make_application, session_of
from tests.processes import TIMEOUT
from workspaces.hashers import PasswordHasher
from workspaces.models import User, Workspace

VERIFIER = "a-verifier-of-more-than-43-characters-as-rfc-7636-wants-it"


class AuthorizationCodeFlow:
    """The steps of the flow. Options override the parameters of a step, so that a test can send invalid ones."""

    def __init__(self, client: OAuth2Session, browser: Browser, metadata: dict[str, Any]) -> None:
        self.client, self.browser, self.metadata = client, browser, metadata

    def url(self, **options: Any) -> str:
        return str(
            self.client.create_authorization_url(
                self.metadata["authorization_endpoint"], **({"code_verifier": VERIFIER} | options)
            )[0]
        )

    def token(self, location: str, **options: Any) -> dict[str, Any]:
        options = {"code_verifier": VERIFIER, "authorization_response": location} | options
        return dict(self.client.fetch_token(self.metadata["token_endpoint"], **options))

    def refresh(self, refresh_token: str) -> dict[str, Any]:
        return dict(self.client.refresh_token(self.metadata["token_endpoint"], refresh_token))


@pytest.fixture
def flow(client: OAuth2Session, browser: Browser, metadata: dict[str, Any]) -> AuthorizationCodeFlow:
    return AuthorizationCodeFlow(client, browser, metadata)


def test_a_client_needs_only_the_metadata_to_sign_a_person_in_and_create_a_key(
    flow: AuthorizationCodeFlow, site: str, workspace: Workspace, owner: User
) -> None:
    flow.token(flow.browser.allow(flow.url()))

    created = flow.client.post(f"{site}/api/v1/workspaces/current/api-keys", json={"description": "CI"})

    assert created.status_code == 201
    assert created.json()["createdBy"] == {"userId": owner.pk, "name": "Owner"}
    me = requests.get(
        f"{site}/api/v1/me", headers={"Authorization": f"Bearer {created.json()['secret']}"}, timeout=TIMEOUT
    ).json()
    assert me["workspace"]["workspaceId"] == workspace.pk


def test_the_metadata_describes_the_server(metadata: dict[str, Any], site: str) -> None:
    assert metadata["issuer"] == site
    assert metadata["authorization_endpoint"] == f"{site}/app/auth/authorize"
    assert metadata["token_endpoint"] == f"{site}/app/auth/token"
    assert metadata["revocation_endpoint"] == f"{site}/app/auth/revoke"
    assert metadata["device_authorization_endpoint"] == f"{site}/app/auth/device"
    assert requests.get(metadata["service_documentation"], timeout=TIMEOUT).status_code == 200
    assert metadata["response_types_supported"] == ["code"]
    assert metadata["code_challenge_methods_supported"] == ["S256"]
    assert set(metadata["scopes_supported"]) >= {"workspace:read", "workspace:write", "api-keys:manage"}
    assert not {"implicit", "password", "client_credentials"} & set(metadata["grant_types_supported"])


def test_every_authorization_response_names_the_issuer_once(flow: AuthorizationCodeFlow, site: str) -> None:
    """Clients reject a response without it, also an error (RFC 9207)."""
    invalid = flow.url(scope="unknown")
    locations = [
        flow.browser.allow(flow.url()),
        flow.browser.refuse(flow.url()),
        flow.browser.open(invalid).headers["Location"],
        requests.get(invalid, allow_redirects=False, timeout=TIMEOUT).headers["Location"],
        requests.get(flow.url(prompt="none"), allow_redirects=False, timeout=TIMEOUT).headers["Location"],
    ]

    assert [parse_qs(urlsplit(location).query)["iss"] for location in locations] == [[site]] * 5


def test_a_challenge_without_a_method_is_s256(flow: AuthorizationCodeFlow) -> None:
    url = flow.url().replace("&code_challenge_method=S256", "")
    assert "code_challenge_method" not in url

    assert flow.token(flow.browser.allow(url))["access_token"]


def test_a_valid_request_redirects_to_the_sign_in_page(flow: AuthorizationCodeFlow) -> None:
    response = requests.get(flow.url(), allow_redirects=False, timeout=TIMEOUT)

    assert response.headers["Location"].startswith("/sign-in/?next=/app/auth/authorize")


def test_a_request_without_a_code_challenge_is_rejected(flow: AuthorizationCodeFlow) -> None:
    flow.client.code_challenge_method = None

    assert error_in(flow.browser.open(flow.url()).headers["Location"]) == "invalid_request"


def test_a_consent_form_without_a_client_id_is_rejected(flow: AuthorizationCodeFlow) -> None:
    page = flow.browser.open(flow.url())

    assert flow.browser.send(page, flow.url(), allow="yes", client_id="").status_code == 400


@pytest.mark.parametrize(
    ("parameter", "error"),
    [
        ("code_challenge_method=plain", "invalid_request"),
        ("code_challenge=short", "invalid_request"),
        ("code_challenge=", "invalid_request"),
        ("scope=everything", "invalid_scope"),
    ],
)
def test_an_invalid_request_redirects_to_the_client_before_sign_in(
    flow: AuthorizationCodeFlow, parameter: str, error: str
) -> None:
    name = parameter.partition("=")[0]
    kept = [part for part in flow.url().partition("?")[2].split("&") if not part.startswith(f"{name}=")]
    url = f"{flow.metadata['authorization_endpoint']}?{'&'.join([*kept, parameter])}"

    response = requests.get(url, allow_redirects=False, timeout=TIMEOUT)

    assert response.headers["Location"].startswith(CALLBACK)
    assert error_in(response.headers["Location"]) == error


@pytest.mark.parametrize(
    "redirect",
    [
        "https://evil.example/callback",
        "http://127.0.0.1/callback/more",
        "http://127.0.0.1/callback?more=1",
        "http://localhost/callback",
        "https://127.0.0.1/callback",
    ],
)
def test_an_unregistered_redirect_uri_shows_an_error_page(flow: AuthorizationCodeFlow, redirect: str) -> None:
    flow.client.redirect_uri = redirect

    response = flow.browser.open(flow.url())

    assert response.status_code == 400
    assert "Location" not in response.headers
    assert "Invalid authorization request" in response.text


def test_a_loopback_redirect_uri_can_have_any_port(flow: AuthorizationCodeFlow) -> None:
    flow.client.redirect_uri = "http://127.0.0.1:49152/callback"

    assert flow.token(flow.browser.allow(flow.url()))["access_token"]


def test_denying_consent_redirects_with_an_error(flow: AuthorizationCodeFlow) -> None:
    assert error_in(flow.browser.refuse(flow.url())) == "access_denied"


def test_the_consent_page_says_what_it_is_about(flow: AuthorizationCodeFlow) -> None:
    page = flow.browser.open(flow.url())

    for sentence in ("Dashboards", "List, create, rename, rotate and revoke API keys", "Acme", "as owner"):
        assert sentence in page.text


def test_no_client_can_skip_the_consent_page(flow: AuthorizationCodeFlow) -> None:
    flow.token(flow.browser.allow(flow.url()))

    assert flow.browser.open(flow.url() + "&approval_prompt=auto").status_code == 200


def test_a_wrong_verifier_is_rejected(flow: AuthorizationCodeFlow) -> None:
    with pytest.raises(OAuthError, match="invalid_grant"):
        flow.token(flow.browser.allow(flow.url()), code_verifier="another-verifier-that-is-long-enough-for-the-rfc")


def test_a_reused_code_revokes_its_tokens(flow: AuthorizationCodeFlow, site: str) -> None:
    location = flow.browser.allow(flow.url())
    first = flow.token(location)

    with pytest.raises(OAuthError, match="invalid_grant"):
        flow.token(location)

    assert me_status(site, first["access_token"]) == 401
    with pytest.raises(OAuthError, match="invalid_grant"):
        flow.refresh(first["refresh_token"])


def test_an_expired_code_is_rejected(flow: AuthorizationCodeFlow) -> None:
    location = flow.browser.allow(flow.url())
    Grant.objects.update(expires=timezone.now() - timedelta(seconds=1))

    with pytest.raises(OAuthError, match="invalid_grant"):
        flow.token(location)


def test_a_code_of_another_client_is_rejected(flow: AuthorizationCodeFlow) -> None:
    location = flow.browser.allow(flow.url())
    flow.client = session_of(make_application("Another"))

    with pytest.raises(OAuthError, match="invalid_grant"):
        flow.token(location, authorization_response=location)


def test_refreshing_rotates_the_refresh_token(flow: AuthorizationCodeFlow, site: str) -> None:
    first = flow.token(flow.browser.allow(flow.url()))

    second = flow.refresh(first["refresh_token"])

    assert second["refresh_token"] != first["refresh_token"]
    assert me_status(site, second["access_token"]) == 200
    assert me_status(site, first["access_token"]) == 401


def test_a_reused_refresh_token_revokes_its_token_family(flow: AuthorizationCodeFlow, site: str) -> None:
    first = flow.token(flow.browser.allow(flow.url()))
    second = flow.refresh(first["refresh_token"])
    RefreshToken.objects.exclude(revoked=None).update(revoked=timezone.now() - timedelta(seconds=11))

    with pytest.raises(OAuthError, match="invalid_grant"):
        flow.refresh(first["refresh_token"])

    assert me_status(site, second["access_token"]) == 401
    with pytest.raises(OAuthError, match="invalid_grant"):
        flow.refresh(second["refresh_token"])


def test_at_most_one_of_several_requests_with_the_same_code_succeeds(flow: AuthorizationCodeFlow) -> None:
    """The others may revoke its tokens before it has sent them: then all fail."""
    endpoint = flow.metadata["token_endpoint"]
    code = {
        "client_id": flow.client.client_id,
        "grant_type": "authorization_code",
        "code": code_in(flow.browser.allow(flow.url())),
        "code_verifier": VERIFIER,
        "redirect_uri": CALLBACK,
    }

    with ThreadPoolExecutor(4) as pool:
        responses = list(pool.map(lambda _: requests.post(endpoint, code, timeout=TIMEOUT), range(4)))

    assert sorted(response.status_code for response in responses) in ([200, 400, 400, 400], [400] * 4)


@pytest.mark.parametrize("name", ["access_token", "refresh_token"])
def test_a_revoked_token_is_rejected(flow: AuthorizationCodeFlow, site: str, name: str) -> None:
    token = flow.token(flow.browser.allow(flow.url()))

    flow.client.revoke_token(flow.metadata["revocation_endpoint"], token[name], name)

    assert me_status(site, token["access_token"]) == 401
    with pytest.raises(OAuthError, match="invalid_grant"):
        flow.refresh(token["refresh_token"])


def test_an_inactive_users_tokens_are_rejected(flow: AuthorizationCodeFlow, site: str, owner: User) -> None:
    token = flow.token(flow.browser.allow(flow.url()))
    User.objects.filter(pk=owner.pk).update(is_active=False)

    assert me_status(site, token["access_token"]) == 401
    with pytest.raises(OAuthError, match="invalid_grant"):
        flow.refresh(token["refresh_token"])


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_a_confidential_client_sends_its_secret_with_basic_authentication_or_in_the_body(
    flow: AuthorizationCodeFlow, method: str
) -> None:
    application = make_application("Server", client_type=Application.CLIENT_CONFIDENTIAL, client_secret="s3cret")
    flow.client = session_of(application, "s3cret", token_endpoint_auth_method=method)

    assert flow.token(flow.browser.allow(flow.url()))["access_token"]


def test_a_confidential_client_without_its_secret_is_rejected(flow: AuthorizationCodeFlow) -> None:
    application = make_application("Server", client_type=Application.CLIENT_CONFIDENTIAL, client_secret="s3cret")
    for client in (session_of(application), session_of(application, "guessed")):
        flow.client = client
        with pytest.raises(OAuthError, match="invalid_client"):
            flow.token(flow.browser.allow(flow.url()))


def test_failed_client_authentications_are_limited_per_client_ip(metadata: dict[str, Any], settings: Any) -> None:
    settings.APIKEYS_FAILURES_PER_MINUTE = 2
    form = {"grant_type": "refresh_token", "refresh_token": "x", "client_id": "nobody"}

    responses = [requests.post(metadata["token_endpoint"], form, timeout=TIMEOUT) for _ in range(3)]

    assert [response.status_code for response in responses] == [401, 401, 429]
    assert int(responses[-1].headers["Retry-After"]) > 0


def test_after_too_many_guesses_a_correct_client_secret_is_rejected_too(
    flow: AuthorizationCodeFlow, metadata: dict[str, Any], settings: Any
) -> None:
    """Each check of a secret takes Argon2. Clients without a secret are not affected."""
    settings.APIKEYS_FAILURES_PER_MINUTE = 3
    token = flow.token(flow.browser.allow(flow.url()))
    server = make_application("Server", client_type=Application.CLIENT_CONFIDENTIAL, client_secret="s3cret")

    def send(endpoint: str, secret: str) -> int:
        form = {"client_id": server.client_id, "client_secret": secret, "token": "x"}
        form |= {"grant_type": "refresh_token", "refresh_token": "x"}
        return requests.post(metadata[endpoint], form, timeout=TIMEOUT).status_code

    statuses = [send(endpoint, "guess") for endpoint in ("revocation_endpoint", "token_endpoint") * 2]

    assert statuses == [401, 401, 401, 429]
    assert [send(endpoint, "s3cret") for endpoint in ("revocation_endpoint", "token_endpoint")] == [429, 429]
    assert flow.refresh(token["refresh_token"])["access_token"]


@pytest.mark.django_db
@pytest.mark.parametrize("endpoint", ["token", "revoke"])
def test_a_request_without_a_client_secret_runs_no_hash(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    server = make_application("Server", client_type=Application.CLIENT_CONFIDENTIAL, client_secret="s3cret")
    hashed: list[str] = []
    verify = PasswordHasher.verify

    def watched(hasher: PasswordHasher, password: str, encoded: str) -> bool:
        hashed.append(password)
        return verify(hasher, password, encoded)

    monkeypatch.setattr(PasswordHasher, "verify", watched)

    def send(**secret: str) -> int:
        form = {"client_id": server.client_id, "token": "x", "grant_type": "refresh_token", "refresh_token": "x"}
        return int(send_form(f"/app/auth/{endpoint}", form | secret).status_code)

    assert [send(), send(client_secret=""), send(client_secret="guess")] == [401] * 3
    assert hashed == ["guess"]


def test_failed_api_keys_do_not_block_client_authentication(
    flow: AuthorizationCodeFlow, metadata: dict[str, Any], site: str, settings: Any
) -> None:
    settings.APIKEYS_FAILURES_PER_MINUTE = 3
    server = make_application("Server", client_type=Application.CLIENT_CONFIDENTIAL, client_secret="s3cret")
    bearer = {"Authorization": "Bearer one_revoked"}
    statuses = [requests.get(f"{site}/api/v1/me", headers=bearer, timeout=TIMEOUT).status_code for _ in range(4)]

    form = {"client_id": server.client_id, "client_secret": "s3cret", "token": "x"}
    response = requests.post(metadata["revocation_endpoint"], form, timeout=TIMEOUT)

    assert statuses == [401, 401, 401, 429]
    assert response.status_code == 200


def test_the_revocation_endpoint_sends_retry_after_too(metadata: dict[str, Any], settings: Any) -> None:
    settings.APIKEYS_FAILURES_PER_MINUTE = 1
    form = {"client_id": "nobody", "client_secret": "guess", "token": "x"}

    responses = [requests.post(metadata["revocation_endpoint"], form, timeout=TIMEOUT) for _ in range(2)]

    assert [response.status_code for response in responses] == [401, 429]
    assert int(responses[1].headers["Retry-After"]) > 0
    assert responses[1].json()["error"] == "temporarily_unavailable"


@pytest.mark.parametrize("grant_type", ["password", "client_credentials", "implicit"])
@pytest.mark.parametrize("password", ["owner-password", "wrong"])
def test_other_grant_types_are_rejected_without_checking_a_password(
    metadata: dict[str, Any], application: Application, owner: User, grant_type: str, password: str
) -> None:
    """The error must not reveal whether the password is right: nothing limits the attempts here."""
    form = {"grant_type": grant_type, "client_id": application.client_id}
    form |= {"username": owner.email, "password": password}

    response = requests.post(metadata["token_endpoint"], form, timeout=TIMEOUT)

    assert (response.status_code, response.json()) == (400, {"error": "unsupported_grant_type"})


def me_status(site: str, token: str) -> int:
    return requests.get(f"{site}/api/v1/me", headers={"Authorization": f"Bearer {token}"}, timeout=TIMEOUT).status_code
