"""An OAuth client and a terminal that talk to the server in this process, without HTTP."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from django.test import Client

from oauth.models import Application
from oauth.server import DEVICE_CODE
from tests.helpers import send_form
from tests.oauth.conftest import CALLBACK, code_in, error_in

VERIFIER = "a-verifier-of-more-than-43-characters-as-rfc-7636-wants-it"
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=")


class Program:
    """An application. `browser` is the signed-in browser in which a user decides about its requests."""

    def __init__(
        self, application: Application, browser: Client, redirect_uri: str = CALLBACK, **credentials: str
    ) -> None:
        self.client_id, self.browser, self.redirect_uri = application.client_id, browser, redirect_uri
        self.credentials = credentials

    # ---- authorization code ----

    def request(self, scope: str | None) -> dict[str, str]:
        fields = {"client_id": self.client_id, "redirect_uri": self.redirect_uri, "response_type": "code"}
        fields |= {"code_challenge": CHALLENGE, "code_challenge_method": "S256", "state": "s"}
        return fields if scope is None else fields | {"scope": scope}

    def open(self, scope: str | None, **parameters: str) -> Any:
        """Open the consent page."""
        return self.browser.get("/app/auth/authorize", self.request(scope) | parameters)

    def decide(self, scope: str, **decision: str) -> Any:
        """Submit the form on the consent page."""
        return self.browser.post("/app/auth/authorize", self.request(scope) | decision)

    def code(self, scope: str = "openid workspace:read") -> str:
        return code_in(self.decide(scope, allow="yes")["Location"])

    def exchange(self, code: str) -> Any:
        form = {"grant_type": "authorization_code", "code": code, "code_verifier": VERIFIER}
        return self.post("token", None, **form, redirect_uri=self.redirect_uri)

    def tokens(self, scope: str = "openid workspace:read") -> dict[str, str]:
        return dict(self.exchange(self.code(scope)).json())

    # ---- refresh and revoke ----

    def refresh(self, refresh_token: str, **fields: str) -> Any:
        return self.post("token", None, grant_type="refresh_token", refresh_token=refresh_token, **fields)

    def revoke(self, token: str) -> Any:
        return self.post("revoke", token=token)

    # ---- device codes ----

    def start_device(self, scope: str = "openid workspace:read", **options: Any) -> Any:
        return self.post("device", options, scope=scope)

    def decide_device(self, user_code: str, **decision: str) -> Any:
        return self.browser.post("/app/auth/device/decision", {"user_code": user_code} | decision)

    def poll(self, device_code: str) -> Any:
        return self.post("token", grant_type=DEVICE_CODE, device_code=device_code)

    def post(self, endpoint: str, options: dict[str, Any] | None = None, **form: str) -> Any:
        fields = {"client_id": self.client_id} | self.credentials | form
        return send_form(f"/app/auth/{endpoint}", fields, **(options or {}))


def redirected_error(response: Any) -> str:
    """Return the error that the authorization endpoint redirects to the application with."""
    assert response.status_code == 302, response.status_code
    return error_in(response["Location"])
