"""Device cookies: they identify a browser in which a user has signed in before.

The cookie is signed, is valid for one account only, and grants no access.
"""

import secrets
from datetime import timedelta

from django.conf import settings
from django.core.signing import BadSignature, TimestampSigner
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

COOKIE_NAME = "device"
MAX_AGE = timedelta(days=365)


def get_device_id(request: HttpRequest, email: str) -> str | None:
    """Return the id of this browser for the account, or None if the user hasn't signed in here before."""
    try:
        return _signer(email).unsign(request.COOKIES.get(COOKIE_NAME, ""), max_age=MAX_AGE)
    except BadSignature:
        return None


def set_device_cookie(response: HttpResponse, email: str) -> None:
    """Set a cookie with a new device id. Each sign-in gets its own, and so its own rate limit."""
    response.set_cookie(
        COOKIE_NAME,
        _signer(email).sign(secrets.token_hex(16)),
        max_age=MAX_AGE,
        path=reverse("sign-in"),
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Lax",
    )


def _signer(email: str) -> TimestampSigner:
    return TimestampSigner(salt=f"workspaces.devices {email}")
