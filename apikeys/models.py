"""The API key model: create, authenticate, find, rename and revoke keys."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import DatabaseError, models, transaction
from django.db.models import Q
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from apikeys import hashing, keys
from apikeys.validators import DESCRIPTION_MAX_LENGTH, DESCRIPTION_VALIDATORS, REASON_VALIDATORS, clean_expiry
from core.db import contention
from core.db.statements import fetch
from workspaces.access import CredentialRejected
from workspaces.fields import LineField
from workspaces.ids import IdField, is_id
from workspaces.models import Action, Actor, AuditEvent, User, Workspace
from workspaces.validators import REASON_MAX_LENGTH, clean_text

logger = logging.getLogger("onehorizon.apikeys")

ANY_STATUS = "all"  # the value of a status filter that selects all keys
_SELECT_FINGERPRINT = "SELECT fingerprint FROM apikeys_apikey WHERE key_id = %(key_id)s"
IDEMPOTENCY_RETENTION = timedelta(days=30)  # a repeated request is recognized for this time after the key's creation
LAST_USED_RESOLUTION = timedelta(minutes=1)  # `last_used_at` is written at most this often


class ApiKeyStatus(models.TextChoices):
    ACTIVE = "active"
    REVOKED = "revoked"
    EXPIRED = "expired"


class KeyNotCreated(Exception):
    """The workspace can't have another key at the moment. The message says why."""


class WorkspaceSuspended(KeyNotCreated):
    """The workspace is suspended, so no keys can be created."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"This workspace is suspended: “{reason}”. You can create keys once it is resumed.")


class ActiveKeyLimitReached(KeyNotCreated):
    """The workspace has reached its limit of active keys."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"This workspace has {limit} active API keys, which is the limit: revoke one first.")


class KeyAlreadyCreated(Exception):
    """An earlier request with this idempotency key created `api_key`. Its secret can't be shown again."""

    def __init__(self, api_key: ApiKey) -> None:
        super().__init__(f"An earlier request with this idempotency key created {api_key.masked}.")
        self.api_key = api_key


class IdempotencyKeyReused(Exception):
    """An earlier, different request used this idempotency key."""

    def __init__(self) -> None:
        super().__init__(
            "This Idempotency-Key was used before with a different body. "
            "To create another API key, send a new Idempotency-Key."
        )


def key_id_starts_with(text: str) -> Q:
    """Return a filter for keys whose key id or masked form starts with `text`; `one_` alone matches none."""
    prefix = text.removeprefix(f"{keys.PREFIX}_").rstrip("_….*")
    return Q(key_id__startswith=prefix) if prefix else Q(pk__in=[])


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    def active(self) -> ApiKeyQuerySet:
        """Return keys that are not revoked and not expired."""
        return self.filter(Q(expires_at=None) | Q(expires_at__gt=timezone.now()), revoked_at=None)

    def revoked(self) -> ApiKeyQuerySet:
        return self.filter(revoked_at__isnull=False)

    def expired(self) -> ApiKeyQuerySet:
        return self.filter(expires_at__lte=timezone.now(), revoked_at=None)

    def with_old_idempotency_key(self) -> ApiKeyQuerySet:
        """Return keys with an idempotency key that is no longer needed."""
        return self.filter(idempotency_key__isnull=False, created_at__lte=timezone.now() - IDEMPOTENCY_RETENTION)

    def with_status(self, status: str) -> ApiKeyQuerySet:
        """Filter by an `ApiKeyStatus`, or don't filter if it is `ANY_STATUS`."""
        querysets = {
            ApiKeyStatus.ACTIVE: self.active,
            ApiKeyStatus.REVOKED: self.revoked,
            ApiKeyStatus.EXPIRED: self.expired,
            ANY_STATUS: self.all,
        }
        return querysets[status]()

    def matching(self, text: str) -> ApiKeyQuerySet:
        """Return keys whose description contains `text`, or whose id, key id or masked form matches it."""
        return self.filter(Q(description__icontains=text) | Q(pk=text) | key_id_starts_with(text))

    def clear_idempotency_keys(self) -> int:
        """Forget which requests created these keys, and return how many there are."""
        return self.update(idempotency_key=None, request_digest="")

    def with_users(self) -> ApiKeyQuerySet:
        """Fetch the users who created and revoked the keys in the same query."""
        return self.select_related("created_by", "revoked_by")

    @sensitive_variables()
    def find_by_secret(self, secret: str) -> ApiKey | None:
        """Return the key with this secret, whatever its status, or None.

        Compares the fingerprint only: use `authenticate` to grant access.
        """
        key_id = keys.parse(secret)
        api_key = self.filter(key_id=key_id).first() if key_id else None
        return api_key if api_key and api_key.has_fingerprint_of(secret) else None


_BaseManager = models.Manager.from_queryset(ApiKeyQuerySet)  # named, because mypy can't read a call as a base class


class ApiKeyManager(_BaseManager["ApiKey"]):
    """Creates and finds keys. Use `ApiKey.objects`: `workspace.api_keys` finds only that workspace's keys."""

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
        """Create a key and return it with its secret, which can't be shown again.

        Raise `ValidationError` for an invalid description or expiry, `NotAllowed` if the actor can't manage the
        workspace's keys, `KeyNotCreated` if the workspace is suspended or at its limit, and `KeyAlreadyCreated` if it
        has a key with this `idempotency_key`, or `IdempotencyKeyReused` if that key was created with another
        `request_digest`.
        """
        description = clean_text(ApiKey._meta.get_field("description"), description)
        if idempotency_key is not None:  # before the hash, which takes long, and again under the lock
            _require_no_duplicate(workspace, idempotency_key, request_digest)
        key_id, secret = keys.generate()
        stored_hash = hashing.hash_secret(secret)
        api_key = self.model(
            workspace=workspace,
            key_id=key_id,
            hash=stored_hash,
            fingerprint=hashing.fingerprint(secret),
            shared_proof=hashing.shared_proof(secret, stored_hash),
            description=description,
            created_by=by.user,
            idempotency_key=idempotency_key,
            request_digest=request_digest,
        )
        with transaction.atomic():
            locked = Workspace.objects.lock(workspace.pk)
            locked.require_key_manager(by)
            if idempotency_key is not None:
                _require_no_duplicate(locked, idempotency_key, request_digest)
            if expires_at is not None:  # checked after the duplicate: a retry may arrive after the expiry
                api_key.expires_at = clean_expiry(expires_at)
            if locked.suspended_at is not None:
                raise WorkspaceSuspended(locked.suspend_reason)
            limit = settings.APIKEYS_MAX_ACTIVE
            if locked.api_keys.active().count() >= limit:
                raise ActiveKeyLimitReached(limit)
            api_key.save(force_insert=True)
            api_key.record(Action.API_KEY_CREATED, by, description=api_key.description)
        return api_key, secret

    @transaction.atomic
    def revoke_all(self, workspace: Workspace, *, by: Actor, reason: str) -> int:
        """Revoke all active keys of a workspace permanently, and return how many. An event is written for each key.

        For operators, and fast with thousands of keys. Raise `ValidationError` for an invalid or blank reason, or
        `NotAllowed`.
        """
        reason = clean_text(ApiKey._meta.get_field("revoke_reason"), reason, name="reason")
        if not reason:
            raise ValidationError({"reason": "Enter a reason. It is saved with each key."})
        Workspace.objects.lock(workspace.pk)
        by.require_operator()
        active = self.active().filter(workspace=workspace)
        ids = list(active.values_list("pk", flat=True))
        active.update(revoked_at=timezone.now(), revoked_by=by.user, revoke_reason=reason)
        AuditEvent.objects.record_each(
            Action.API_KEY_REVOKED, by, workspace_id=workspace.pk, subjects=ids, reason=reason
        )
        return len(ids)

    @sensitive_variables()
    def authenticate(self, secret: str) -> ApiKey:
        """Return the active key for this secret, in a workspace that is not suspended, or raise `CredentialRejected`.

        A malformed secret is rejected without I/O, an unknown one after one short query that reads the fingerprint.
        """
        key_id = keys.parse(secret)
        if key_id is None:
            claimed = keys.claimed_key_id(secret)
            raise CredentialRejected("malformed", **({"key": claimed} if claimed else {}))
        contention.about_to_read("API keys")
        if hashing.proofs.hash_of(secret) is None:
            self._require_fingerprint(key_id, secret)
        api_key = self.select_related("workspace__tier").filter(key_id=key_id).first()
        if api_key is None:
            raise CredentialRejected("unknown", key=key_id)
        if api_key.status != ApiKeyStatus.ACTIVE:
            raise CredentialRejected(api_key.status.value, key=key_id)
        if api_key.workspace.suspended_at is not None:
            raise CredentialRejected("suspended", key=key_id)
        if not api_key.matches(secret):
            raise CredentialRejected("wrong_secret", key=key_id)
        return api_key

    def _require_fingerprint(self, key_id: str, secret: str) -> None:
        rows = fetch(_SELECT_FINGERPRINT, {"key_id": key_id})
        if not rows:
            raise CredentialRejected("unknown", key=key_id)
        if not hashing.has_fingerprint(secret, rows[0][0]):
            raise CredentialRejected("wrong_secret", key=key_id)

    @sensitive_variables()
    def look_up(self, text: str) -> ApiKey:
        """Return the key with this id, key id, masked form or full secret, whatever its status.

        Raise `DoesNotExist`, also for a wrong secret with the key id of an existing key.
        """
        text = text.strip()
        if is_id("key", text):
            return self.get(pk=text)
        if keys.KEY_ID_PATTERN.fullmatch(text):
            return self.get(key_id=text)
        if masked := keys.MASKED_PATTERN.fullmatch(text):
            return self.get(key_id=masked["key_id"])
        api_key = self.find_by_secret(text)
        if api_key is None:
            raise self.model.DoesNotExist
        return api_key


class ApiKey(models.Model):
    """A credential of a workspace, independent of the user who created it. Rows are never deleted."""

    id = IdField("key")
    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="api_keys", db_index=False)
    key_id = models.CharField(max_length=keys.KEY_ID_LENGTH, unique=True, editable=False)
    hash = models.CharField(max_length=200, editable=False)
    fingerprint = models.BinaryField(max_length=hashing.FINGERPRINT_BYTES, editable=False)
    shared_proof = models.BinaryField(null=True, editable=False)  # spares processes that start the Argon2 run
    description = LineField(max_length=DESCRIPTION_MAX_LENGTH, validators=DESCRIPTION_VALIDATORS)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    expires_at = models.DateTimeField(null=True)
    revoked_at = models.DateTimeField(null=True, editable=False)
    revoked_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    revoke_reason = LineField(max_length=REASON_MAX_LENGTH, blank=True, validators=REASON_VALIDATORS)
    last_used_at = models.DateTimeField(null=True, editable=False)
    last_used_from = models.GenericIPAddressField(null=True, editable=False)
    idempotency_key = models.CharField(max_length=64, null=True, editable=False)  # noqa: DJ001, "" would be a value
    request_digest = models.CharField(max_length=64, blank=True, editable=False)

    objects = ApiKeyManager()

    class Meta:
        verbose_name = "API key"
        ordering = ["-id"]  # newest first
        indexes = [
            models.Index(fields=["workspace", "-id"], name="api_key_newest_first"),
            # For counting the active keys of a workspace, however many it has revoked.
            models.Index(fields=["workspace", "expires_at"], name="api_key_active", condition=Q(revoked_at=None)),
            # For the status filter of the admin's list, over all workspaces.
            models.Index(fields=["-id"], name="api_key_not_revoked", condition=Q(revoked_at=None)),
            models.Index(fields=["-id"], name="api_key_revoked", condition=Q(revoked_at__isnull=False)),
            models.Index(fields=["expires_at"], name="api_key_expiring", condition=Q(revoked_at=None)),
        ]
        constraints = [models.UniqueConstraint(fields=["workspace", "idempotency_key"], name="api_key_created_once")]
        permissions = [("revoke_apikey", "Can revoke API key")]

    def __str__(self) -> str:
        return self.masked

    # ---- display ----

    @property
    def masked(self) -> str:
        return keys.mask(self.key_id)

    @property
    def status(self) -> ApiKeyStatus:
        if self.revoked_at is not None:
            return ApiKeyStatus.REVOKED
        if self.expires_at is not None and self.expires_at <= timezone.now():
            return ApiKeyStatus.EXPIRED
        return ApiKeyStatus.ACTIVE

    # ---- authentication ----

    def has_fingerprint_of(self, secret: str) -> bool:
        return hashing.has_fingerprint(secret, self.fingerprint)

    @sensitive_variables()
    def matches(self, secret: str) -> bool:
        """Return whether `secret` is this key's secret.

        Rehashes it if the Argon2 settings have changed, and saves a shared proof if the key has none that is current.
        """
        if not self.has_fingerprint_of(secret):
            return False
        was_verified = hashing.proofs.has(secret, self.hash)
        if not hashing.verify(secret, self.hash, self.shared_proof):
            return False
        if hashing.is_outdated(self.hash):
            self._rehash(secret)
        elif not was_verified:
            self._share_proof(secret)
        return True

    @sensitive_variables()
    def _rehash(self, secret: str) -> None:
        old_hash, new_hash = self.hash, hashing.hash_secret(secret)
        new_proof = hashing.shared_proof(secret, new_hash)
        if self._save_if("rehash", Q(hash=old_hash), hash=new_hash, shared_proof=new_proof):
            self.hash, self.shared_proof = new_hash, new_proof
            hashing.proofs.add(secret, new_hash)

    @sensitive_variables()
    def _share_proof(self, secret: str) -> None:
        """Save a proof that other processes accept, unless the row has it."""
        proof = hashing.shared_proof(secret, self.hash)
        if self.shared_proof is not None and bytes(self.shared_proof) == proof:
            return
        if self._save_if("shared proof", Q(hash=self.hash), shared_proof=proof):
            self.shared_proof = proof

    def record_use(self, client_ip: str | None) -> None:
        """Save the time and the client IP of this use, at most once a minute. Best effort: a failure is only logged."""
        now = timezone.now()
        cutoff = now - LAST_USED_RESOLUTION
        if self.last_used_at is not None and self.last_used_at > cutoff:
            return
        is_outdated = Q(last_used_at=None) | Q(last_used_at__lte=cutoff)
        self._save_if("last use", is_outdated, last_used_at=now, last_used_from=client_ip)

    @sensitive_variables()
    def _save_if(self, what: str, condition: Q, **values: Any) -> bool:
        """Save these fields if the row meets the condition, and return whether it was saved.

        Never waits for a locked row: another request is saving the same, or the key is being changed. Never fails the
        request: a database error is logged. The transaction rolls back only this change.
        """
        keys_of_workspace = ApiKey.objects.filter(workspace=self.workspace_id)
        unlocked = keys_of_workspace.filter(condition, pk=self.pk).select_for_update(skip_locked=True)
        try:
            with transaction.atomic():  # to begin can fail too: on SQLite it waits for the write lock
                return bool(keys_of_workspace.filter(pk__in=unlocked.values("pk")).update(**values))
        except DatabaseError:
            logger.warning("could not save the %s of key %s", what, self.key_id, exc_info=True)
            return False

    # ---- changes ----

    @transaction.atomic
    def rename(self, description: str, *, by: Actor) -> bool:
        """Change the description. Return False if the key has this description already.

        Raise `ValidationError`, or `NotAllowed` if the actor can't manage the workspace's keys.
        """
        description = clean_text(ApiKey._meta.get_field("description"), description)
        Workspace.objects.lock(self.workspace_id).require_key_manager(by)
        before = ApiKey.objects.get(pk=self.pk).description
        self.description = description
        if description == before:
            return False
        self.save(update_fields=["description"])
        self.record(Action.API_KEY_RENAMED, by, before=before, after=description)
        return True

    @transaction.atomic
    def revoke(self, *, by: Actor, reason: str = "") -> bool:
        """Revoke the key permanently, effective at its next request. Return False if it was already revoked.

        Raise `ValidationError` for an invalid reason, or `NotAllowed` if the actor can't manage the workspace's keys.
        """
        reason = clean_text(ApiKey._meta.get_field("revoke_reason"), reason, name="reason")
        Workspace.objects.lock(self.workspace_id).require_key_manager(by)
        revoked_at = timezone.now()
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


def _require_no_duplicate(workspace: Workspace, idempotency_key: str, request_digest: str) -> None:
    """Raise `KeyAlreadyCreated` or `IdempotencyKeyReused` if the workspace has a key with this idempotency key."""
    duplicate = workspace.api_keys.filter(idempotency_key=idempotency_key).first()
    if duplicate is None:
        return
    if duplicate.request_digest != request_digest:
        raise IdempotencyKeyReused
    raise KeyAlreadyCreated(duplicate)
