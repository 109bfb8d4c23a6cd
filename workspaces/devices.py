"""Device cookies: they identify a browser in which a user has signed in before.

The cookie is signed, is valid for one account only, and grants no access.
"""

import secrets
from datetime import timedelta

from django.conf import settings
from django.core.signing import BadSignature, TimestampSigner
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

MAX_AGE = timedelta(days=365)


def get_device_id(request: HttpRequest, email: str) -> str | None:
    """Return the id of this browser for the account, or None if the user hasn't signed in here before."""
    try:
        return _signer(email).unsign(request.COOKIES.get(_name_and_path()[0], ""), max_age=MAX_AGE)
    except BadSignature:
        return None


def set_device_cookie(response: HttpResponse, email: str) -> None:
    """Set a cookie with a new device id. Each sign-in gets its own, and so its own rate limit."""
    name, path = _name_and_path()
    response.set_cookie(
        name,
        _signer(email).sign(secrets.token_hex(16)),
        max_age=MAX_AGE,
        path=path,
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Lax",
    )


def _signer(email: str) -> TimestampSigner:
    return TimestampSigner(salt=f"workspaces.devices {email}")


def _name_and_path() -> tuple[str, str]:
    """Return the cookie's name and path.

    Browsers accept a secure cookie whose name begins with `__Host-` from this host only. Its path must be `/`.
    """
    return ("__Host-device", "/") if settings.SESSION_COOKIE_SECURE else ("device", reverse("sign-in"))
