"""The API key model: create, find, rename, rotate and revoke keys."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.functional import cached_property
from django.views.decorators.debug import sensitive_variables

from apikeys.models.api_key_querysets import ApiKeyQuerySet, ApiKeyStatus
from apikeys.models.stored_secrets import StoredSecret
from apikeys.validators import DESCRIPTION_MAX_LENGTH, DESCRIPTION_VALIDATORS, REASON_VALIDATORS, clean_expiry
from workspaces.fields import LineField
from workspaces.ids import IdField
from workspaces.models import Action, Actor, AuditEvent, User, Workspace
from workspaces.validators import REASON_MAX_LENGTH, clean_text

DEFAULT_OVERLAP = timedelta(days=1)  # how long the previous secret works after a rotation
MAX_OVERLAP = timedelta(days=7)
RECENT_USE = timedelta(days=1)  # a key used within this time is probably still in use
QUIET_PERIOD = timedelta(hours=1)  # how long only the current secret is used before the previous one is quiet


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


class KeyNotRotated(Exception):
    """The key can't be rotated at the moment. The message says why."""


class KeyAlreadyRotated(Exception):
    """An earlier request with this idempotency key rotated `api_key`. The new secret can't be shown again."""

    def __init__(self, api_key: ApiKey) -> None:
        super().__init__(f"An earlier request with this idempotency key rotated {api_key.masked}.")
        self.api_key = api_key


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
        # Before the hash, which takes long, and again under the lock.
        _require_no_duplicate(workspace, idempotency_key, request_digest)
        stored, secret = StoredSecret.generate()
        api_key = self.model(
            workspace=workspace,
            description=description,
            created_by=by.user,
            idempotency_key=idempotency_key,
            request_digest=request_digest,
        )
        with transaction.atomic():
            locked = Workspace.objects.lock(workspace.pk)
            locked.require_key_manager(by)
            _require_no_duplicate(locked, idempotency_key, request_digest)
            if expires_at is not None:  # checked after the duplicate: a retry may arrive after the expiry
                api_key.expires_at = clean_expiry(expires_at)
            if locked.suspended_at is not None:
                raise WorkspaceSuspended(locked.suspend_reason)
            limit = settings.APIKEYS_MAX_ACTIVE
            if locked.api_keys.active().count() >= limit:
                raise ActiveKeyLimitReached(limit)
            api_key.save(force_insert=True)
            stored.created_at = api_key.created_at
            api_key._add_secret(stored)
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


class ApiKey(models.Model):
    """A credential of a workspace, independent of the user who created it. Rows are never deleted.

    Its secrets, current and earlier ones, are in `StoredSecret`.
    """

    id = IdField("key")
    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="api_keys", db_index=False)
    description = LineField(max_length=DESCRIPTION_MAX_LENGTH, validators=DESCRIPTION_VALIDATORS)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    expires_at = models.DateTimeField(null=True)
    revoked_at = models.DateTimeField(null=True, editable=False)
    revoked_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    revoke_reason = LineField(max_length=REASON_MAX_LENGTH, blank=True, validators=REASON_VALIDATORS)
    idempotency_key = models.CharField(max_length=64, null=True, editable=False)  # noqa: DJ001, "" would be a value
    request_digest = models.CharField(max_length=64, blank=True, editable=False)

    # Set by `with_marks`.
    is_never_used: bool
    is_unused: bool
    expires_soon: bool

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

    @property
    def masked(self) -> str:
        return self.current_secret.masked

    @property
    def status(self) -> ApiKeyStatus:
        if self.revoked_at is not None:
            return ApiKeyStatus.REVOKED
        if self.expires_at is not None and self.expires_at <= timezone.now():
            return ApiKeyStatus.EXPIRED
        return ApiKeyStatus.ACTIVE

    @property
    def is_active(self) -> bool:
        return self.status == ApiKeyStatus.ACTIVE

    # ---- secrets ----

    @cached_property
    def secrets_not_ended(self) -> list[StoredSecret]:
        """The current secret, and the previous one. `with_secrets` fetches them for many keys at once."""
        return list(self.secrets.not_ended())

    @property
    def current_secret(self) -> StoredSecret:
        return next(stored for stored in self.secrets_not_ended if stored.is_current)

    @property
    def previous_secret(self) -> StoredSecret | None:
        """The secret that the last rotation replaced, while it works."""
        if not self.is_active:
            return None
        return next((s for s in self.secrets_not_ended if not (s.is_current or s.has_ended)), None)

    @property
    def previous_secret_is_quiet(self) -> bool:
        """Whether only the current secret is in use.

        The previous one was not used since the first use of the current one or, where both were used for a while, such
        as in a rolling deployment, not in the `QUIET_PERIOD` before the last use of the current one.
        """
        current, previous = self.current_secret, self.previous_secret
        if current.first_used_at is None or current.last_used_at is None or previous is None:
            return False
        if previous.last_used_at is None or previous.last_used_at < current.first_used_at:
            return True
        return current.last_used_at - previous.last_used_at >= QUIET_PERIOD

    @property
    def was_used_recently(self) -> bool:
        """Whether the key is active, and a secret that still works was used within `RECENT_USE`."""
        cutoff = timezone.now() - RECENT_USE
        return self.is_active and any(
            s.last_used_at is not None and s.last_used_at > cutoff for s in self.secrets_not_ended
        )

    @property
    def last_rotated_at(self) -> datetime | None:
        """When the last rotation created the current secret, or None if that is the key's first one."""
        created_at = self.current_secret.created_at
        return created_at if created_at > self.created_at else None

    def refresh_from_db(self, *args: Any, **kwargs: Any) -> None:
        """Also forget the secrets, which are read again when needed."""
        super().refresh_from_db(*args, **kwargs)
        self.__dict__.pop("secrets_not_ended", None)

    def _add_secret(self, stored: StoredSecret) -> None:
        stored.api_key, stored.workspace_id = self, self.workspace_id
        stored.save(force_insert=True)
        self.secrets_not_ended = [stored]

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

    @sensitive_variables("secret")
    def rotate(
        self,
        *,
        overlap: timedelta,
        by: Actor,
        replacing: str | None = None,
        idempotency_key: str | None = None,
        request_digest: str = "",
    ) -> str:
        """Replace the current secret and return the new one, which can't be shown again.

        The replaced secret works until the end of the overlap, but not after the key's expiry. A previous secret that
        still works ends now. `replacing` is the key id of the secret that the actor expects to replace.

        Raise `ValidationError` for an overlap that is negative or longer than `MAX_OVERLAP`, `NotAllowed` if the actor
        can't manage the workspace's keys, `KeyNotRotated` if the key is revoked or expired, its workspace is suspended,
        or its current secret is not `replacing`, and `KeyAlreadyRotated` if an earlier rotation of this key had this
        `idempotency_key`, or `IdempotencyKeyReused` if that had another `request_digest`.
        """
        if not timedelta() <= overlap <= MAX_OVERLAP:
            raise ValidationError({"overlap": f"This must be between 0 and {MAX_OVERLAP.days} days."})
        # Before the hash, which takes long, and again under the lock.
        self._require_no_duplicate(idempotency_key, request_digest)
        stored, secret = StoredSecret.generate()
        with transaction.atomic():
            workspace = Workspace.objects.lock(self.workspace_id)
            workspace.require_key_manager(by)
            self._require_no_duplicate(idempotency_key, request_digest)
            self._require_rotatable(workspace, replacing)
            self._end_previous_secret(by)
            stored.idempotency_key, stored.request_digest = idempotency_key, request_digest
            self._replace_secret(stored, overlap, by)
        return secret

    def _require_no_duplicate(self, idempotency_key: str | None, request_digest: str) -> None:
        secrets = StoredSecret.objects.filter(workspace=self.workspace_id, api_key=self)
        if secrets.created_by_request(idempotency_key, request_digest):
            self.refresh_from_db(fields=["revoked_at", "revoked_by"])
            raise KeyAlreadyRotated(self)

    def _require_rotatable(self, workspace: Workspace, replacing: str | None) -> None:
        self.refresh_from_db(fields=["revoked_at"])
        if not self.is_active:
            raise KeyNotRotated(f"This key is {self.status}, so it can't be rotated. Create a new key instead.")
        if workspace.suspended_at is not None:
            raise KeyNotRotated(
                f"This workspace is suspended: “{workspace.suspend_reason}”. You can rotate keys once it is resumed."
            )
        if replacing is not None and replacing != self.current_secret.key_id:
            raise KeyNotRotated(
                f"This key was rotated in the meantime: its current secret is {self.masked}. Nothing was changed."
            )

    def _replace_secret(self, stored: StoredSecret, overlap: timedelta, by: Actor) -> None:
        replaced, now = self.current_secret, timezone.now()
        replaced.replaced_at = now
        replaced.ends_at = min(now + overlap, self.expires_at or datetime.max.replace(tzinfo=now.tzinfo))
        replaced.ended_at = None if overlap else now
        replaced.save(update_fields=["replaced_at", "ends_at", "ended_at"])
        stored.created_at = now
        self._add_secret(stored)
        self.secrets_not_ended.append(replaced)
        self.record(
            Action.API_KEY_ROTATED,
            by,
            secret=stored.masked,
            previous=replaced.masked,
            ends_at=None if replaced.has_ended else replaced.ends_at.isoformat(timespec="seconds"),
        )

    @transaction.atomic
    def end_previous_secret(self, *, by: Actor, key_id: str | None = None) -> bool:
        """End the overlap of the previous secret, effective at its next request. Return False if there is none.

        Also return False if `key_id` is given and the previous secret has another key id. Raise `NotAllowed` if the
        actor can't manage the workspace's keys.
        """
        Workspace.objects.lock(self.workspace_id).require_key_manager(by)
        self.refresh_from_db(fields=["revoked_at"])
        return self._end_previous_secret(by, key_id)

    def _end_previous_secret(self, by: Actor, key_id: str | None = None) -> bool:
        previous = self.previous_secret
        if previous is None or key_id not in (None, previous.key_id):
            return False
        previous.ended_at = timezone.now()
        previous.save(update_fields=["ended_at"])
        self.record(Action.API_KEY_PREVIOUS_SECRET_ENDED, by, secret=previous.masked)
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

    def record(self, action: Action, by: Actor, **details: str | None) -> None:
        AuditEvent.objects.record(action, by, workspace_id=self.workspace_id, subject=self.pk, **details)

    @property
    def audit_events(self) -> models.QuerySet[AuditEvent]:
        return AuditEvent.objects.about(self.pk)


def _require_no_duplicate(workspace: Workspace, idempotency_key: str | None, request_digest: str) -> None:
    """Raise `KeyAlreadyCreated` or `IdempotencyKeyReused` if the workspace has a key with this idempotency key."""
    keys_of_workspace = ApiKey.objects.filter(workspace=workspace)
    if duplicate := keys_of_workspace.created_by_request(idempotency_key, request_digest):
        raise KeyAlreadyCreated(duplicate)
