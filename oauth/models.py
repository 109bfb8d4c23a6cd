"""OAuth applications, authorization codes and device codes. Codes are stored as SHA-256 digests.

Access and refresh tokens are the toolkit's models, which store a SHA-256 digest too
(COMPLIANT_BCP_RFC9700_TOKEN_STORAGE). A token is 30 random characters, so a fast digest is enough.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import datetime, timedelta
from typing import Any, cast
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth.hashers import identify_hasher
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.utils import timezone
from oauth2_provider.models import AbstractApplication, AbstractDeviceGrant, AbstractGrant, AccessToken, RefreshToken
from oauth2_provider.scopes import get_scopes_backend

from oauth.redirect_uris import redirect_uri_problem
from workspaces.access import Scope
from workspaces.fields import LineField
from workspaces.models import Action, Actor, AuditEvent, User

# No vowels, so that no words appear, and no digits, which look like letters (RFC 8628, section 6.1).
USER_CODE_ALPHABET = "BCDFGHJKLMNPQRSTVWXZ"
GRANT_TYPES = {
    AbstractApplication.GRANT_AUTHORIZATION_CODE: "Authorization code",
    AbstractApplication.GRANT_DEVICE_CODE: "Device code",
}
DEVICE_CODE_LIFETIME = timedelta(minutes=10)
SECRET_MIN_LENGTH = 32  # of a client secret that an operator enters instead of the generated one
_CLIENT_ID = re.compile("[!-9;-~]*")  # a colon would end it in HTTP Basic authentication
# Characters of a client id in a log line: the logs redact a whole generated one, which looks as random as a secret.
LOGGED_CLIENT_ID = 24
SLOW_DOWN = timedelta(seconds=5)  # added to the polling interval (RFC 8628, section 3.5)


class DigestField(models.CharField[str, str]):
    """Stores the SHA-256 of a value. Lookups take the value itself.

    Reading returns the digest, and saving that would hash it again: save a fetched row with `update_fields`.
    """

    def get_prep_value(self, value: Any) -> Any:
        return value if value is None else hashlib.sha256(str(value).encode()).hexdigest()


def default_scopes() -> list[str]:
    """Return the scopes of a new application: all except the one to manage API keys."""
    return ["openid", "profile", "email", Scope.READ.value, Scope.WRITE.value]


def validate_scopes(scopes: list[str]) -> None:
    if not set(scopes) <= set(get_scopes_backend().get_all_scopes()):
        raise ValidationError("Choose scopes that this server offers.")


class Application(AbstractApplication):
    """An OAuth client. The secret of a confidential client is hashed like a password."""

    name = LineField("name", max_length=255)  # users see it on the consent page
    authorization_grant_type = models.CharField(max_length=44, choices=GRANT_TYPES)
    # The scopes that it may request. A narrower list applies to its existing tokens too.
    scopes = models.JSONField(
        default=default_scopes,
        db_default=models.Value(default_scopes(), models.JSONField()),
        validators=[validate_scopes],
    )

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(hash_client_secret=True),
                name="application_secret_hashed",
                violation_error_message="Hash client secret must be on.",
            ),
            models.CheckConstraint(
                condition=models.Q(skip_authorization=False),
                name="application_asks_for_consent",
                violation_error_message="Skip authorization must be off.",
            ),
            models.CheckConstraint(
                condition=models.Q(authorization_grant_type__in=list(GRANT_TYPES)),
                name="application_grant_type_offered",
                violation_error_message="Use the authorization code or device code grant.",
            ),
        ]

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save `updated` with every change, which ends remembered consent. The admin saves only the changed fields."""
        if kwargs.get("update_fields") is not None:
            kwargs["update_fields"] = {*kwargs["update_fields"], "updated"}
        super().save(*args, **kwargs)

    def clean(self) -> None:
        is_public = self.client_type == self.CLIENT_PUBLIC
        problems = {uri: redirect_uri_problem(uri, is_public=is_public) for uri in self.redirect_uris.split()}
        errors = {"redirect_uris": [f"{uri}: {problem}" for uri, problem in problems.items() if problem]}
        if not problems and self.authorization_grant_type == self.GRANT_AUTHORIZATION_CODE:
            errors["redirect_uris"] = ["Enter a redirect URI, to which the authorization code is sent."]
        if self._state.adding and not _CLIENT_ID.fullmatch(self.client_id):
            errors["client_id"] = ["Use printable ASCII characters, without spaces and colons."]
        if self._state.adding and is_hash(self.client_secret):
            errors["client_secret"] = ["This is a hash. Enter the secret itself."]
        if any(errors.values()):
            raise ValidationError(errors)
        super().clean()

    def get_allowed_schemes(self) -> list[str]:
        """Return the schemes that the toolkit may redirect to: those of the redirect URIs, which `clean` checked."""
        return [urlsplit(uri).scheme for uri in self.redirect_uris.split()]


def is_hash(secret: str) -> bool:
    """Return whether the toolkit would store this secret as it is."""
    try:
        identify_hasher(secret)
    except ValueError:
        return False
    return True


class Grant(AbstractGrant):
    """An authorization code. A used code stays: a second use revokes the tokens that it issued."""

    code = DigestField(max_length=64, unique=True)
    token_family = models.UUIDField(null=True)
    # When the user consented, if this request skipped the consent page (oauth.consent).
    consented_at = models.DateTimeField(null=True)


class TokenFamily(models.Model):
    """The refresh tokens of one authorization, each of which replaced the one before.

    It is stored at the first refresh, or with the first tokens if the request skipped the consent page. It expires
    `OAUTH_REFRESH_TOKEN_LIFETIME` after the consent. Never delete the row before its tokens: the lifetime would start
    again (`oauth.expiry`).
    """

    id = models.UUIDField(primary_key=True)
    started_at = models.DateTimeField()

    def __str__(self) -> str:
        return str(self.pk)

    @classmethod
    def of(cls, token: RefreshToken) -> TokenFamily:
        """Return the token's family. A token whose family is not stored yet is its first."""
        return cls.objects.get_or_create(pk=token.token_family, defaults={"started_at": token.created})[0]

    @property
    def is_expired(self) -> bool:
        lifetime: timedelta = settings.OAUTH_REFRESH_TOKEN_LIFETIME
        return self.started_at + lifetime <= timezone.now()


def normalize_user_code(text: str) -> str:
    """Return a code in the form `WDJB-MJHT`. Case, hyphens and spaces of `text` don't matter."""
    letters = re.sub(r"[^A-Z]", "", text.upper())
    return f"{letters[:4]}-{letters[4:]}"


class DeviceGrant(AbstractDeviceGrant):
    """A terminal's request for access, which a user approves or denies (RFC 8628)."""

    device_code = DigestField(max_length=64)  # the terminal polls with it
    user_code = DigestField(max_length=64)  # the user enters it in the browser
    last_checked = models.DateTimeField(null=True)  # type: ignore[assignment]  # the toolkit sets it on creation
    client_ip = models.GenericIPAddressField("client IP", null=True)  # of the terminal

    class Meta:
        constraints = [models.UniqueConstraint(fields=["device_code"], name="device_grant_device_code")]

    @classmethod
    def start(cls, client_id: str, scope: str, client_ip: str | None = None) -> DeviceGrant:
        """Create a grant and return it with its codes in clear."""
        letters = "".join(secrets.choice(USER_CODE_ALPHABET) for _ in range(8))
        return cls.objects.create(
            client_id=client_id,
            scope=scope,
            client_ip=client_ip,
            device_code=secrets.token_urlsafe(32),
            user_code=normalize_user_code(letters),
            expires=timezone.now() + DEVICE_CODE_LIFETIME,
        )

    @classmethod
    def find_pending(cls, user_code: str) -> DeviceGrant | None:
        """Return the pending grant with this code, or None."""
        pending = cls.objects.filter(status=cls.AUTHORIZATION_PENDING, expires__gt=timezone.now())
        return pending.filter(user_code=normalize_user_code(user_code)).first()

    @property
    def application(self) -> Application:
        application: Application = Application.objects.get(client_id=self.client_id)
        return application

    @property
    def started_at(self) -> datetime:
        return self.expires - DEVICE_CODE_LIFETIME

    @transaction.atomic
    def decide(self, user: User, *, approved: bool, by: Actor) -> bool:
        """Save the user's decision, which is final.

        Return False if the grant is decided already or has expired, or if the user's access has ended.
        """
        pending = DeviceGrant.objects.filter(pk=self.pk, status=self.AUTHORIZATION_PENDING, expires__gt=timezone.now())
        decision = self.AUTHORIZED if approved else self.DENIED
        if not user.lock_access() or not pending.update(user=user, status=decision):
            return False
        if approved:
            details = {"application": self.client_id, "scope": self.scope, "requested_from": self.client_ip}
            AuditEvent.objects.record(Action.DEVICE_ALLOWED, by, subject=user.pk, **details)
        return True

    @classmethod
    @transaction.atomic
    def poll(cls, client_id: str, device_code: str) -> tuple[DeviceGrant | None, bool]:
        """Return the grant, or None, and whether the terminal polls too early, which extends its interval.

        See `slow_down` in RFC 8628, section 3.5.
        """
        grants = cls.objects.select_for_update().filter(client_id=client_id, device_code=device_code)
        grant = grants.first()
        if grant is None:
            return None, False
        now = timezone.now()
        too_early = grant.last_checked is not None and now < grant.last_checked + timedelta(seconds=grant.interval)
        if too_early:
            grant.interval += int(SLOW_DOWN.total_seconds())
        grant.last_checked = now
        grant.save(update_fields=["interval", "last_checked"])
        return grant, too_early


@transaction.atomic
def revoke_token(token: AccessToken | RefreshToken, *, by: Actor) -> bool:
    """Revoke the token and all others of its family, also if it has been replaced itself.

    Return False if all are revoked already. The audit event is about the token's user.
    """
    cast(User, token.user).lock_access()  # so that the tokens of a concurrent refresh are committed
    is_access_token = isinstance(token, AccessToken)
    is_bound = models.Q(access_token=token.pk) if is_access_token else models.Q(pk=token.pk)
    families = RefreshToken.objects.filter(is_bound).values("token_family")
    # The refresh tokens are locked first, and in this order, as they are when a client refreshes.
    family = RefreshToken.objects.select_for_update().filter(
        is_bound | models.Q(token_family__in=families), revoked=None
    )
    refresh_tokens = list(family.order_by("pk"))
    access_token = AccessToken.objects.select_for_update().filter(pk=token.pk).first() if is_access_token else None
    locked = access_token or next(iter(refresh_tokens), None)
    if locked is None:
        return False
    action = Action.ACCESS_TOKEN_REVOKED if is_access_token else Action.REFRESH_TOKEN_REVOKED
    client_id = locked.application.client_id if locked.application else None
    AuditEvent.objects.record(action, by, subject=locked.user_id, application=client_id)
    revocable: list[Any] = [*refresh_tokens] or [locked]
    for item in revocable:
        item.revoke()
    return True


@transaction.atomic
def revoke_all(user: User) -> None:
    """Revoke the user's tokens and codes, also those of terminals."""
    RefreshToken.objects.filter(user=user, revoked=None).update(revoked=timezone.now())
    for model in (AccessToken, Grant, DeviceGrant):
        model.objects.filter(user=user).delete()
