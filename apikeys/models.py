"""API keys: how one comes to be, is found, checked, changed and ended."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import cast

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import DatabaseError, models, transaction
from django.db.models import Q
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from apikeys import hashing, keys
from apikeys.validators import STORED_TEXT_VALIDATORS
from core.db.statements import fetch
from workspaces.ids import IdField, is_id
from workspaces.models import Action, Actor, AuditEvent, User, Workspace, WorkspaceSuspended

logger = logging.getLogger("onehorizon.apikeys")

DESCRIPTION_MAX_LENGTH = 100
STATUSES = ("active", "revoked", "expired")
_FINGERPRINT = "SELECT fingerprint FROM apikeys_apikey WHERE key_id = %(key_id)s"
LAST_USED_RESOLUTION = timedelta(minutes=1)


class ActiveKeyLimitReached(Exception):
    """The workspace holds as many active keys as it may."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"This workspace has {limit} active API keys, the most it can have: revoke one first.")


class CreatedAlready(Exception):
    """The same request to create a key came before; `api_key` is what it made. Its secret can't be had again."""

    def __init__(self, api_key: ApiKey) -> None:
        super().__init__(f"{api_key.masked} was created by this request before.")
        self.api_key = api_key


class IdempotencyKeyReused(Exception):
    """The `Idempotency-Key` of an earlier request came with another one."""

    def __init__(self) -> None:
        super().__init__("This Idempotency-Key was sent before with another body: use a new one for a new key.")


def key_id_starts_with(text: str) -> Q:
    """Keys whose key id or masked form starts with `text`; none if it holds no part of a key id."""
    prefix = text.removeprefix(f"{keys.MARK}_").rstrip("_….*")
    return Q(key_id__startswith=prefix) if prefix else Q(pk__in=[])


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    def active(self) -> ApiKeyQuerySet:
        """Neither revoked nor expired."""
        return self.filter(Q(expires_at=None) | Q(expires_at__gt=timezone.now()), revoked_at=None)

    def revoked(self) -> ApiKeyQuerySet:
        return self.filter(revoked_at__isnull=False)

    def expired(self) -> ApiKeyQuerySet:
        return self.filter(expires_at__lte=timezone.now(), revoked_at=None)

    def having_status(self, status: str) -> ApiKeyQuerySet:
        """`active`, `revoked`, `expired`, or `all`."""
        narrowed = {"active": self.active, "revoked": self.revoked, "expired": self.expired, "all": self.all}
        return narrowed[status]()

    def matching(self, text: str) -> ApiKeyQuerySet:
        """Keys whose description contains `text`, whose id it is, or whose key id or masked form starts with it."""
        return self.filter(Q(description__icontains=text) | Q(pk=text) | key_id_starts_with(text))

    def with_users(self) -> ApiKeyQuerySet:
        """Read the users who created and revoked the keys in the same query."""
        return self.select_related("created_by", "revoked_by")

    @sensitive_variables("secret")
    def create_key(
        self,
        workspace: Workspace,
        *,
        description: str,
        by: Actor,
        expires_at: datetime | None = None,
        idempotency_key: str | None = None,
        request_digest: str = "",
    ) -> tuple[ApiKey, str]:
        """The one way a key comes to be. Returns it with its secret, which can't be had again.

        Raises `ActiveKeyLimitReached`, `WorkspaceSuspended`, and `ValidationError` for a bad description or an expiry
        in the past. Where the workspace has a key of this `idempotency_key`: `CreatedAlready`, or, if that came of a
        request with another digest, `IdempotencyKeyReused`.
        """
        description = clean_description(description)
        key_id, secret = keys.generate()
        api_key = self.model(
            workspace=workspace,
            key_id=key_id,
            hash=hashing.hash_secret(secret),
            fingerprint=hashing.fingerprint(secret),
            description=description,
            expires_at=expires_at,
            created_by=by.user,
            idempotency_key=idempotency_key,
            request_digest=request_digest,
        )
        with transaction.atomic():
            held = Workspace.objects.lock(workspace.pk)
            if idempotency_key is not None:
                earlier = self.filter(workspace=workspace, idempotency_key=idempotency_key).first()
                if earlier is not None and earlier.request_digest != request_digest:
                    raise IdempotencyKeyReused
                if earlier is not None:
                    raise CreatedAlready(earlier)
            if expires_at is not None:
                api_key.expires_at = clean_expiry(expires_at)
            if held.suspended_at is not None:
                raise WorkspaceSuspended(held.suspend_reason)
            limit = settings.APIKEYS_MAX_ACTIVE
            if self.active().filter(workspace=workspace).count() >= limit:
                raise ActiveKeyLimitReached(limit)
            api_key.save(force_insert=True)
            api_key.record(Action.API_KEY_CREATED, by, description=api_key.description)
        return api_key, secret

    @sensitive_variables()
    def authenticate(self, secret: str) -> ApiKey | None:
        """The active key whose secret this is, or None; also None while its workspace is suspended.

        A malformed string costs arithmetic, an unknown one a short read.
        """
        key_id = keys.parse(secret)
        if key_id is None or not (hashing.proofs.hash_of(secret) or self._keeps_fingerprint(key_id, secret)):
            return None
        usable = self.active().filter(workspace__suspended_at=None)
        api_key = usable.select_related("workspace__tier").filter(key_id=key_id).first()
        if api_key is None or not api_key.matches(secret):
            return None
        return api_key

    def _keeps_fingerprint(self, key_id: str, secret: str) -> bool:
        rows = fetch(_FINGERPRINT, {"key_id": key_id})
        return bool(rows) and hashing.has_fingerprint(secret, rows[0][0])

    @sensitive_variables()
    def look_up(self, text: str) -> ApiKey:
        """The key that a person means by its id, its key id, its masked form, or its whole secret, in any state.

        Raises `DoesNotExist`, also for a secret that only looks like the key's.
        """
        text = text.strip()
        if is_id("key", text):
            return self.get(pk=text)
        if keys.KEY_ID_PATTERN.fullmatch(text):
            return self.get(key_id=text)
        if masked := keys.MASKED_PATTERN.fullmatch(text):
            return self.get(key_id=masked["key_id"])
        api_key = self.holding(text)
        if api_key is None:
            raise self.model.DoesNotExist
        return api_key

    @sensitive_variables()
    def holding(self, secret: str) -> ApiKey | None:
        """The key, in any state, whose secret this is by its fingerprint: for finding it, not for letting it in."""
        key_id = keys.parse(secret)
        api_key = self.filter(key_id=key_id).first() if key_id else None
        return api_key if api_key and api_key.has_fingerprint_of(secret) else None


class ApiKey(models.Model):
    """A credential of a workspace: it acts for the workspace and outlives whoever made it. Never deleted."""

    id = IdField("key")
    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="api_keys", db_index=False)
    key_id = models.CharField(max_length=keys.KEY_ID_LENGTH, unique=True, editable=False)
    hash = models.CharField(max_length=200, editable=False)
    fingerprint = models.BinaryField(max_length=hashing.FINGERPRINT_BYTES, editable=False)
    description = models.CharField(max_length=DESCRIPTION_MAX_LENGTH, validators=STORED_TEXT_VALIDATORS)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    expires_at = models.DateTimeField(null=True)
    revoked_at = models.DateTimeField(null=True, editable=False)
    revoked_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    revoke_reason = models.CharField(max_length=200, blank=True, validators=STORED_TEXT_VALIDATORS)
    last_used_at = models.DateTimeField(null=True, editable=False)
    last_used_from = models.GenericIPAddressField(null=True, editable=False)
    idempotency_key = models.CharField(max_length=64, null=True, editable=False)  # noqa: DJ001, "" would be a value
    request_digest = models.CharField(max_length=64, blank=True, editable=False)

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        verbose_name = "API key"
        ordering = ["-id"]  # newest first
        indexes = [
            models.Index(fields=["workspace", "-id"], name="api_key_newest_first"),
            # What the operators' list is narrowed to, over all workspaces.
            models.Index(fields=["-id"], name="api_key_not_revoked", condition=Q(revoked_at=None)),
            models.Index(fields=["-id"], name="api_key_revoked", condition=Q(revoked_at__isnull=False)),
            models.Index(fields=["expires_at"], name="api_key_expiring", condition=Q(revoked_at=None)),
        ]
        constraints = [models.UniqueConstraint(fields=["workspace", "idempotency_key"], name="api_key_created_once")]
        permissions = [("revoke_apikey", "Can revoke API key")]

    def __str__(self) -> str:
        return self.masked

    # ---- what it is ----

    @property
    def masked(self) -> str:
        return keys.mask(self.key_id)

    @property
    def status(self) -> str:
        if self.revoked_at is not None:
            return "revoked"
        if self.expires_at is not None and self.expires_at <= timezone.now():
            return "expired"
        return "active"

    # ---- checking a secret ----

    def has_fingerprint_of(self, secret: str) -> bool:
        return hashing.has_fingerprint(secret, self.fingerprint)

    @sensitive_variables()
    def matches(self, secret: str) -> bool:
        """Whether this is the key's secret. Brings the hash up to the settings' parameters where it lags."""
        if not self.has_fingerprint_of(secret) or not hashing.verify(secret, self.hash):
            return False
        if hashing.is_outdated(self.hash):
            self._rehash(secret)
        return True

    @sensitive_variables()
    def _rehash(self, secret: str) -> None:
        stored, fresh = self.hash, hashing.hash_secret(secret)
        with _bookkeeping("rehash", self):
            if ApiKey.objects.filter(pk=self.pk, hash=stored).update(hash=fresh):
                self.hash = fresh
                hashing.proofs.keep(secret, fresh)

    def record_use(self, address: str | None) -> None:
        """Notes when and from where the key was used last: at most once a minute, and never at a request's cost."""
        now = timezone.now()
        stale = now - LAST_USED_RESOLUTION
        if self.last_used_at is not None and self.last_used_at > stale:
            return
        with _bookkeeping("last use", self):
            unused = ApiKey.objects.filter(Q(last_used_at=None) | Q(last_used_at__lte=stale), pk=self.pk)
            # Whoever holds the row is another request that notes the same, or a change: none is waited for, but on
            # SQLite, which has one writer at a time.
            free = unused.select_for_update(skip_locked=True).values("pk")
            ApiKey.objects.filter(pk__in=free).update(last_used_at=now, last_used_from=address)

    # ---- verbs ----

    @transaction.atomic
    def rename(self, description: str, *, by: Actor) -> None:
        """Raises `ValidationError`."""
        before, self.description = self.description, clean_description(description)
        if self.description != before:
            self.save(update_fields=["description"])
            self.record(Action.API_KEY_RENAMED, by, before=before, after=self.description)

    @transaction.atomic
    def revoke(self, *, by: Actor, reason: str = "") -> bool:
        """Ends the key, from the next request on; there is no way back. False where it was revoked already.

        Raises `ValidationError` for a reason that can't be kept.
        """
        reason, revoked_at = _clean("revoke_reason", "reason", reason), timezone.now()
        changed = ApiKey.objects.filter(pk=self.pk, revoked_at=None).update(
            revoked_at=revoked_at, revoked_by=by.user, revoke_reason=reason
        )
        if changed:
            self.revoked_at, self.revoked_by, self.revoke_reason = revoked_at, by.user, reason
            self.record(Action.API_KEY_REVOKED, by, reason=reason)
        return bool(changed)

    def record(self, action: Action, by: Actor, **details: str) -> None:
        AuditEvent.objects.record(action, by, workspace_id=self.workspace_id, subject=self.pk, **details)

    @property
    def audit_events(self) -> models.QuerySet[AuditEvent]:
        return AuditEvent.objects.about(self.pk)


@contextmanager
def _bookkeeping(what: str, api_key: ApiKey) -> Iterator[None]:
    """For writes that a request can do without: a failure is logged, and undoes nothing but them."""
    try:
        with transaction.atomic():
            yield
    except DatabaseError:
        logger.warning("could not save the %s of key %s", what, api_key.key_id, exc_info=True)


def clean_description(description: str) -> str:
    """The description as it is kept. Raises `ValidationError`."""
    return _clean("description", "description", description)


def clean_expiry(expires_at: datetime) -> datetime:
    """The expiry as it is kept, in UTC. Raises `ValidationError`."""
    try:
        expires_at = expires_at.astimezone(UTC)
    except OverflowError:
        raise ValidationError({"expires_at": "This is after the year 9999."}) from None
    if expires_at <= timezone.now():
        raise ValidationError({"expires_at": "This is in the past."})
    return expires_at


def _clean(field: str, name: str, text: str) -> str:
    """`text` as the model's `field` keeps it. Raises `ValidationError` under `name`."""
    column = cast("models.CharField[str, str]", ApiKey._meta.get_field(field))
    try:
        cleaned: str = column.clean(text.strip(), None)
    except ValidationError as error:
        raise ValidationError({name: error}) from None
    return cleaned
