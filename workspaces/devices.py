"""Browsers in which a person has signed in: a signed cookie, good for the one account, that lets nobody in."""

import secrets
from datetime import timedelta

from django.conf import settings
from django.core.signing import BadSignature, TimestampSigner
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

COOKIE = "device"
KEPT = timedelta(days=365)


def known(request: HttpRequest, email: str) -> str | None:
    """What tells this browser from others of the person; None where they haven't signed in here."""
    try:
        return _signer(email).unsign(request.COOKIES.get(COOKIE, ""), max_age=KEPT)
    except BadSignature:
        return None


def remember(response: HttpResponse, email: str) -> None:
    """A new one at each sign-in, with a count of its own."""
    response.set_cookie(
        COOKIE,
        _signer(email).sign(secrets.token_hex(16)),
        max_age=KEPT,
        path=reverse("sign-in"),
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Lax",
    )


def _signer(email: str) -> TimestampSigner:
    return TimestampSigner(salt=f"workspaces.devices {email}")
