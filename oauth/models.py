"""Clients, and what they hold until they have a token. None of it can be used by who reads the database.

Access and refresh tokens are the toolkit's own models, which keep a SHA-256 of each and no more
(COMPLIANT_BCP_RFC9700_TOKEN_STORAGE). They are 30 random characters, so a quick digest is enough.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import secrets
from datetime import timedelta
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.utils import timezone
from oauth2_provider.models import AbstractApplication, AbstractDeviceGrant, AbstractGrant

from workspaces.models import User

# Neither vowels nor digits: nothing to confuse, and no words (RFC 8628, 6.1).
USER_CODE_ALPHABET = "BCDFGHJKLMNPQRSTVWXZ"
GRANT_TYPES = {
    AbstractApplication.GRANT_AUTHORIZATION_CODE: "Authorization code",
    AbstractApplication.GRANT_DEVICE_CODE: "Device code",
}
LIFETIME = timedelta(minutes=10)
KEPT = timedelta(days=1)
SLOW_DOWN = timedelta(seconds=5)


class DigestField(models.CharField[str, str]):
    """Keeps the SHA-256 of what it is given, and finds a row by what was given.

    What it reads is the digest, so a row that was read is never saved whole again.
    """

    def get_prep_value(self, value: Any) -> Any:
        return value if value is None else hashlib.sha256(str(value).encode()).hexdigest()


class Application(AbstractApplication):
    """A client. A confidential one's secret is kept as a password is."""

    authorization_grant_type = models.CharField(max_length=44, choices=GRANT_TYPES)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(hash_client_secret=True),
                name="application_secret_hashed",
                violation_error_message="Client secrets are kept hashed.",
            ),
            models.CheckConstraint(
                condition=models.Q(skip_authorization=False),
                name="application_asks_for_consent",
                violation_error_message="Every application asks for consent.",
            ),
            models.CheckConstraint(
                condition=models.Q(authorization_grant_type__in=list(GRANT_TYPES)),
                name="application_grant_type_offered",
                violation_error_message="Only authorization code and device code are offered.",
            ),
        ]

    def clean(self) -> None:
        super().clean()
        if any(not _keeps_a_code_private(uri) for uri in self.redirect_uris.split()):
            raise ValidationError({"redirect_uris": "Plain http is for loopback addresses alone, such as 127.0.0.1."})


def _keeps_a_code_private(uri: str) -> bool:
    """Whether a code sent to `uri` crosses no network in clear (RFC 8252, 7.3)."""
    parts = urlsplit(uri)
    if parts.scheme != "http":
        return True
    try:
        return ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return parts.hostname == "localhost"


class Grant(AbstractGrant):
    """An authorization code. It is kept when it is used: shown again, it ends the tokens that it gave."""

    code = DigestField(max_length=64, unique=True)
    token_family = models.UUIDField(null=True)


class DeviceCodes(NamedTuple):
    device_code: str  # the terminal's, to ask with
    user_code: str  # the person's, to type


def user_code_of(text: str) -> str:
    """`WDJB-MJHT`, in whatever case and with or without the hyphen it was typed."""
    letters = re.sub(r"[^A-Z]", "", text.upper())
    return f"{letters[:4]}-{letters[4:]}"


class DeviceGrant(AbstractDeviceGrant):
    """A terminal that waits for a person's word (RFC 8628)."""

    device_code = DigestField(max_length=64)
    user_code = DigestField(max_length=64)
    last_checked = models.DateTimeField(null=True)  # type: ignore[assignment]  # the toolkit sets it on creation

    class Meta:
        constraints = [models.UniqueConstraint(fields=["device_code"], name="device_grant_device_code")]

    @classmethod
    def start(cls, client_id: str, scope: str) -> DeviceCodes:
        """A new one, in place of those that are long over."""
        now = timezone.now()
        cls.objects.filter(expires__lt=now - KEPT).delete()
        letters = "".join(secrets.choice(USER_CODE_ALPHABET) for _ in range(8))
        codes = DeviceCodes(secrets.token_urlsafe(32), user_code_of(letters))
        cls.objects.create(client_id=client_id, scope=scope, expires=now + LIFETIME, **codes._asdict())
        return codes

    @classmethod
    def typed(cls, user_code: str) -> DeviceGrant | None:
        """The one that waits under a code as a person types it."""
        waiting = cls.objects.filter(status=cls.AUTHORIZATION_PENDING, expires__gt=timezone.now())
        return waiting.filter(user_code=user_code_of(user_code)).first()

    @property
    def application(self) -> Application:
        application: Application = Application.objects.get(client_id=self.client_id)
        return application

    def decide(self, user: User, *, approved: bool) -> bool:
        """The person's word, which can't be taken back. False where there was one already."""
        waiting = DeviceGrant.objects.filter(pk=self.pk, status=self.AUTHORIZATION_PENDING, expires__gt=timezone.now())
        return bool(waiting.update(user=user, status=self.AUTHORIZED if approved else self.DENIED))

    @classmethod
    @transaction.atomic
    def poll(cls, client_id: str, device_code: str) -> tuple[DeviceGrant | None, bool]:
        """The grant of a terminal that asks, and whether it asks too soon, which makes its interval longer."""
        grants = cls.objects.select_for_update().filter(client_id=client_id, device_code=device_code)
        grant = grants.first()
        if grant is None:
            return None, False
        now = timezone.now()
        hasty = grant.last_checked is not None and now < grant.last_checked + timedelta(seconds=grant.interval)
        if hasty:
            grant.interval += int(SLOW_DOWN.total_seconds())
        grant.last_checked = now
        grant.save(update_fields=["interval", "last_checked"])
        return grant, hasty
