"""What is stored of a key's secrets: find them, authenticate with them, and record their use."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

from django.db import DatabaseError, models, transaction
from django.db.models import Q, Value
from django.db.models.functions import Coalesce
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from apikeys import hashing, keys
from apikeys.models.idempotency import IdempotentQuerySet
from core.db import contention
from core.db.statements import fetch
from workspaces.access import CredentialRejected
from workspaces.ids import is_id
from workspaces.models import Workspace

if TYPE_CHECKING:
    from apikeys.models.api_keys import ApiKey

logger = logging.getLogger("onehorizon.apikeys")

_SELECT_FINGERPRINT = "SELECT fingerprint FROM apikeys_storedsecret WHERE key_id = %(key_id)s"
LAST_USED_RESOLUTION = timedelta(minutes=1)  # `last_used_at` is written at most this often


class StoredSecretQuerySet(IdempotentQuerySet["StoredSecret"]):
    def current(self) -> StoredSecretQuerySet:
        """Return the secrets that no rotation has replaced: one per key."""
        return self.filter(replaced_at=None)

    def not_ended(self) -> StoredSecretQuerySet:
        """Return the current secrets and the previous ones."""
        return self.filter(Q(ends_at=None) | Q(ends_at__gt=timezone.now()), ended_at=None)

    def starting_with(self, text: str) -> StoredSecretQuerySet:
        """Return secrets whose key id or masked form starts with `text`; `one_` alone matches none."""
        prefix = text.removeprefix(f"{keys.PREFIX}_").rstrip("_….*")
        return self.filter(key_id__startswith=prefix) if prefix else self.none()

    def without_hashes(self) -> StoredSecretQuerySet:
        """Don't load what secrets are verified with. For lists."""
        return self.defer("hash", "fingerprint", "shared_proof")

    @sensitive_variables()
    def find_by_secret(self, secret: str) -> StoredSecret | None:
        """Return what is stored of this secret, with its key, or None. It may have ended, and its key be revoked.

        Compares the fingerprint only: use `authenticate` to grant access.
        """
        key_id = keys.parse(secret)
        stored = self.select_related("api_key").filter(key_id=key_id).first() if key_id else None
        return stored if stored and stored.has_fingerprint_of(secret) else None


_BaseManager = models.Manager.from_queryset(StoredSecretQuerySet)  # named, because mypy can't read a call as a base


class StoredSecretManager(_BaseManager["StoredSecret"]):
    """Finds secrets of all workspaces. `api_key.secrets` finds only those of one key."""

    @sensitive_variables()
    def authenticate(self, secret: str) -> StoredSecret:
        """Return what is stored of this secret, with its key and workspace, or raise `CredentialRejected`.

        The secret works, its key is active, and the workspace is not suspended. A malformed secret is rejected without
        I/O, an unknown one after one short query that reads the fingerprint.
        """
        key_id = keys.parse(secret)
        if key_id is None:
            claimed = keys.claimed_key_id(secret)
            raise CredentialRejected("malformed", **({"key": claimed} if claimed else {}))
        contention.about_to_read("API keys")
        if hashing.proofs.hash_of(secret) is None:
            self._require_fingerprint(key_id, secret)
        stored = self.select_related("api_key", "workspace__tier").filter(key_id=key_id).first()
        if stored is None:
            raise CredentialRejected("unknown", key=key_id)
        if not stored.api_key.is_active:
            raise CredentialRejected(stored.api_key.status.value, key=key_id)
        if stored.has_ended:
            raise CredentialRejected("ended", key=key_id)
        if stored.workspace.suspended_at is not None:
            raise CredentialRejected("suspended", key=key_id)
        if not stored.matches(secret):
            raise CredentialRejected("wrong_secret", key=key_id)
        return stored

    def _require_fingerprint(self, key_id: str, secret: str) -> None:
        rows = fetch(_SELECT_FINGERPRINT, {"key_id": key_id})
        if not rows:
            raise CredentialRejected("unknown", key=key_id)
        if not hashing.has_fingerprint(secret, rows[0][0]):
            raise CredentialRejected("wrong_secret", key=key_id)

    @sensitive_variables()
    def look_up(self, text: str) -> StoredSecret:
        """Return the secret with this key id, masked form or full text, or the current one of the key with this id.

        The full text may be part of a line, such as one of a log. The secret may have ended, and its key may have any
        status. Raise `DoesNotExist`, also for a wrong secret with an existing key id.
        """
        text = text.strip()
        with_key = self.select_related("api_key")
        if is_id("key", text):
            return with_key.current().get(api_key=text)
        if keys.KEY_ID_PATTERN.fullmatch(text):
            return with_key.get(key_id=text)
        if masked := keys.MASKED_PATTERN.fullmatch(text):
            return with_key.get(key_id=masked["key_id"])
        stored = self.find_by_secret(keys.find(text) or text)
        if stored is None:
            raise self.model.DoesNotExist
        return stored


class StoredSecret(models.Model):
    """What is stored of one secret of a key: enough to verify it, not enough to read it. Rows are never deleted.

    A key has one current secret. A rotation replaces it, and it works until the overlap ends (`ends_at`), as the
    previous secret. See "Rotation" in docs/architecture.md.
    """

    key_id = models.CharField(max_length=keys.KEY_ID_LENGTH, primary_key=True, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="+", db_index=False)
    api_key: models.ForeignKey[ApiKey, ApiKey] = models.ForeignKey(
        "apikeys.ApiKey", on_delete=models.PROTECT, related_name="secrets", db_index=False
    )
    hash = models.CharField(max_length=200, editable=False)
    fingerprint = models.BinaryField(max_length=hashing.FINGERPRINT_BYTES, editable=False)
    shared_proof = models.BinaryField(null=True, editable=False)  # spares processes that start the Argon2 run
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    replaced_at = models.DateTimeField(null=True, editable=False)
    ends_at = models.DateTimeField(null=True, editable=False)  # the end of the overlap, from the rotation
    ended_at = models.DateTimeField(null=True, editable=False)  # before the end of the overlap
    first_used_at = models.DateTimeField(null=True, editable=False)
    last_used_at = models.DateTimeField(null=True, editable=False)
    last_used_from = models.GenericIPAddressField(null=True, editable=False)
    # Of the rotation that created the secret.
    idempotency_key = models.CharField(max_length=64, null=True, editable=False)  # noqa: DJ001, "" would be a value
    request_digest = models.CharField(max_length=64, blank=True, editable=False)

    objects = StoredSecretManager()

    class Meta:
        default_permissions = ()  # who may see a key in the admin sees its secrets in masked form
        ordering = ["-created_at"]  # newest first
        # For the secrets of a key, and those of them that have not ended, however often it was rotated.
        indexes = [models.Index(fields=["api_key", "ends_at"], name="secrets_of_key")]
        constraints = [
            models.UniqueConstraint(fields=["api_key"], name="one_current_secret", condition=Q(replaced_at=None)),
            models.UniqueConstraint(fields=["workspace", "api_key", "idempotency_key"], name="secret_created_once"),
        ]

    def __str__(self) -> str:
        return self.masked

    @property
    def masked(self) -> str:
        return keys.mask(self.key_id)

    @property
    def is_current(self) -> bool:
        """Whether this is the key's newest secret. It works unless the key is revoked or expired."""
        return self.replaced_at is None

    @property
    def has_ended(self) -> bool:
        """Whether the overlap after a rotation is over. `ended_at` ends it on every host, whatever its clock says."""
        return self.ended_at is not None or (self.ends_at is not None and self.ends_at <= timezone.now())

    @property
    def works_until(self) -> datetime | None:
        """When the secret stops or stopped working: the end of its overlap, or of its key. None: no end is known."""
        ends = (self.ended_at, self.ends_at, self.api_key.expires_at, self.api_key.revoked_at)
        return min((end for end in ends if end is not None), default=None)

    # ---- authentication ----

    @classmethod
    @sensitive_variables("secret")
    def generate(cls) -> tuple[Self, str]:
        """Return a new secret, and what to store of it, which is not saved and has no key yet. Runs Argon2id."""
        key_id, secret = keys.generate()
        stored_hash = hashing.hash_secret(secret)
        stored = cls(
            key_id=key_id,
            hash=stored_hash,
            fingerprint=hashing.fingerprint(secret),
            shared_proof=hashing.shared_proof(secret, stored_hash),
        )
        return stored, secret

    def has_fingerprint_of(self, secret: str) -> bool:
        return hashing.has_fingerprint(secret, self.fingerprint)

    @sensitive_variables()
    def matches(self, secret: str) -> bool:
        """Return whether this is what is stored of `secret`.

        Rehashes it if the Argon2 settings have changed, and saves a shared proof if there is none that is current.
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

    # ---- use ----

    def record_use(self, client_ip: str | None) -> None:
        """Save the time and the client IP of this use, at most once a minute. Best effort: a failure is only logged.

        Also saves the first use and, of a previous secret, the first use after that of the current one, so that the
        page never calls a secret unused that is still in use.
        """
        now = timezone.now()
        cutoff = now - LAST_USED_RESOLUTION
        is_recent = self.last_used_at is not None and self.last_used_at > cutoff
        if is_recent and not self._was_last_used_before_the_current_secret():
            return
        is_outdated = Q(last_used_at=None) | Q(last_used_at__lte=cutoff)
        if not self.is_current:
            is_outdated |= Q(last_used_at__lte=self._current_secret.values("first_used_at"))
        first_use = Coalesce("first_used_at", Value(now))
        self._save_if("last use", is_outdated, first_used_at=first_use, last_used_at=now, last_used_from=client_ip)

    @property
    def _current_secret(self) -> StoredSecretQuerySet:
        return StoredSecret.objects.current().filter(workspace=self.workspace_id, api_key=self.api_key_id)

    def _was_last_used_before_the_current_secret(self) -> bool:
        """Return whether this is a previous secret with no saved use since the first use of the current one."""
        if self.is_current:
            return False
        try:
            return self._current_secret.filter(first_used_at__gte=self.last_used_at).exists()
        except DatabaseError:
            logger.warning("could not read the use of the secret that replaced key %s", self.key_id, exc_info=True)
            return False

    @sensitive_variables()
    def _save_if(self, what: str, condition: Q, **values: Any) -> bool:
        """Save these fields if the row meets the condition, and return whether it was saved.

        Never waits for a locked secret: another request is saving the same, or the key is being changed. Never fails
        the request: a database error is logged. The transaction rolls back only this change.
        """
        of_workspace = StoredSecret.objects.filter(workspace=self.workspace_id)
        unlocked = of_workspace.filter(condition, pk=self.pk).select_for_update(skip_locked=True)
        try:
            with transaction.atomic():  # to begin can fail too: on SQLite it waits for the write lock
                return bool(of_workspace.filter(pk__in=unlocked.values("pk")).update(**values))
        except DatabaseError:
            logger.warning("could not save the %s of key %s", what, self.key_id, exc_info=True)
            return False
