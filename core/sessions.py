"""Django's database sessions, stored under a digest of the key in the cookie; those of staff end sooner.

See docs/architecture.md.
"""

import hashlib
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.contrib.sessions.backends import db
from django.contrib.sessions.base_session import AbstractBaseSession
from django.contrib.sessions.models import Session
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.functional import SimpleLazyObject

from core.db import contention
from core.logs import bind

# Sessions of staff end after this time since the sign-in, and after this time without a page.
STAFF_MAX_AGE = timedelta(hours=8)
STAFF_MAX_IDLE = timedelta(minutes=30)
SEEN_INTERVAL = timedelta(minutes=1)  # the last page is recorded at most this often, because it takes a write

# Keys of a session, with times in seconds since the epoch.
SIGNED_IN_AT, SEEN_AT = "signed_in_at", "seen_at"


def digest(session_key: str) -> str:
    """Return the first 160 bits of the key's SHA-256, in hexadecimal: the 40 characters that the column can store.

    The key has 165 random bits.
    """
    return hashlib.sha256(session_key.encode()).hexdigest()[:40]


class SessionStore(db.SessionStore):
    """Looks up, stores and deletes rows by the digest of the session key."""

    def _get_session_from_db(self) -> Session | None:
        contention.about_to_read("sessions")
        session = Session.objects.filter(pk=digest(self.session_key or ""), expire_date__gt=timezone.now()).first()
        if session is None:
            self._session_key = None
        return session

    def exists(self, session_key: str) -> bool:
        return super().exists(digest(session_key))

    def create_model_instance(self, data: dict[str, Any]) -> AbstractBaseSession:
        session = super().create_model_instance(data)
        session.session_key = digest(session.session_key)
        return session

    def delete(self, session_key: str | None = None) -> None:
        """Delete the session with this key, by default the current session."""
        session_key = session_key or self.session_key
        if session_key is not None:
            super().delete(digest(session_key))


def record_sign_in(request: HttpRequest, **_: Any) -> None:
    """A receiver of `user_logged_in`. It records the time for all users, because a user may become staff later."""
    request.session[SIGNED_IN_AT] = request.session[SEEN_AT] = int(time.time())


class StaffSessionMiddleware:
    """Ends a staff session that is too old or idle, when a view reads `request.user`: then the user is anonymous."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request.user = SimpleLazyObject(lambda: load_user(request))  # type: ignore[assignment]
        return self.get_response(request)


def load_user(request: HttpRequest) -> AbstractBaseUser | AnonymousUser:
    """Return the user of the session, and add the user's id to the further log lines of the request."""
    user = user_of(request)
    if user.is_authenticated:
        bind(user=user.pk)
    return user


def user_of(request: HttpRequest) -> AbstractBaseUser | AnonymousUser:
    """Return the signed-in user, or AnonymousUser after ending a staff session.

    A script's request, such as the refresh of the quota, does not count as activity: its `Sec-Fetch-Mode` differs.
    """
    user, session, now = get_user(request), request.session, int(time.time())
    if not user.is_staff:
        return user
    age, idle = now - session.get(SIGNED_IN_AT, 0), now - session.get(SEEN_AT, 0)
    if age >= STAFF_MAX_AGE.total_seconds() or idle >= STAFF_MAX_IDLE.total_seconds():
        session.flush()
        return AnonymousUser()
    is_page = request.headers.get("Sec-Fetch-Mode", "navigate") == "navigate"
    if is_page and idle >= SEEN_INTERVAL.total_seconds():
        session[SEEN_AT] = now
    return user
