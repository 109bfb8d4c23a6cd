"""Django's database sessions, stored under a digest of the key in the cookie. See docs/architecture.md."""

import hashlib
from typing import Any

from django.contrib.sessions.backends import db
from django.contrib.sessions.base_session import AbstractBaseSession
from django.contrib.sessions.models import Session
from django.utils import timezone


def digest(session_key: str) -> str:
    """Return the first 160 bits of the key's SHA-256, in hexadecimal: the 40 characters that the column can store.

    The key has 165 random bits.
    """
    return hashlib.sha256(session_key.encode()).hexdigest()[:40]


class SessionStore(db.SessionStore):
    """Looks up, stores and deletes rows by the digest of the session key."""

    def _get_session_from_db(self) -> Session | None:
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
