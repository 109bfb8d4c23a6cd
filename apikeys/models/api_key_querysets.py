"""Filter API keys by their status and by what may need attention."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from django.db import models
from django.db.models import Count, Exists, F, OuterRef, Prefetch, Q, Subquery
from django.utils import timezone

from apikeys.models.idempotency import IdempotentQuerySet
from apikeys.models.stored_secrets import StoredSecret

if TYPE_CHECKING:
    from apikeys.models.api_keys import ApiKey  # noqa: F401  # the model of the queryset below

ANY_STATUS = "all"  # the value of a status filter that selects all keys
MAX_COUNT = 1000  # of keys with one status
UNUSED_PERIOD = timedelta(days=30)  # after this long without requests, a key is unused
EXPIRES_SOON_DAYS = 7


class ApiKeyStatus(models.TextChoices):
    ACTIVE = "active"
    REVOKED = "revoked"
    EXPIRED = "expired"


def _has_status(status: ApiKeyStatus) -> Q:
    now = timezone.now()
    return {
        ApiKeyStatus.ACTIVE: Q(Q(expires_at=None) | Q(expires_at__gt=now), revoked_at=None),
        ApiKeyStatus.EXPIRED: Q(expires_at__lte=now, revoked_at=None),
        ApiKeyStatus.REVOKED: Q(revoked_at__isnull=False),
    }[status]


class KeyOrder(models.TextChoices):
    """The orders of the list of keys. In each, keys without the value come last."""

    CREATED = "created", "newest first"
    LAST_USED = "used", "last used first"
    EXPIRES = "expires", "next to expire first"


class KeyMark(models.TextChoices):
    """Why an active key may need attention. Each is a filter of the list of keys."""

    NEVER_USED = "never-used", "Never used"
    UNUSED = "unused", f"Unused for {UNUSED_PERIOD.days} days"
    EXPIRES_SOON = "expiring", "Expires soon"


# The attributes of a key that `with_marks` fetches.
_MARKS = {KeyMark.NEVER_USED: "is_never_used", KeyMark.UNUSED: "is_unused", KeyMark.EXPIRES_SOON: "expires_soon"}


class ApiKeyQuerySet(IdempotentQuerySet["ApiKey"]):
    def active(self) -> ApiKeyQuerySet:
        """Return keys that are not revoked and not expired."""
        return self.filter(_has_status(ApiKeyStatus.ACTIVE))

    def with_status(self, status: str) -> ApiKeyQuerySet:
        """Filter by an `ApiKeyStatus`, or don't filter if it is `ANY_STATUS`."""
        return self.all() if status == ANY_STATUS else self.filter(_has_status(ApiKeyStatus(status)))

    def count_by_status(self) -> dict[str, int]:
        """Return the number of keys with each status, and their sum as `ANY_STATUS`.

        Counts at most `MAX_COUNT` keys and one more with a status: keys are never deleted, and few are active.
        """
        counts: dict[str, int] = {
            status: self.with_status(status).order_by()[: MAX_COUNT + 1].count() for status in ApiKeyStatus
        }
        return {**counts, ANY_STATUS: sum(counts.values())}

    def in_order(self, order: KeyOrder) -> ApiKeyQuerySet:
        """Sort the keys, by the last use of their current secrets or by their expiry."""
        if order is KeyOrder.CREATED:
            return self.order_by("-pk")
        if order is KeyOrder.EXPIRES:
            return self.order_by(F("expires_at").asc(nulls_last=True), "-pk")
        current = StoredSecret.objects.current().filter(api_key=OuterRef("pk"))
        return self.order_by(Subquery(current.values("last_used_at")).desc(nulls_last=True), "-pk")

    def never_used(self) -> ApiKeyQuerySet:
        """Return active keys none of whose secrets was ever used, including those before a rotation."""
        used = StoredSecret.objects.filter(api_key=OuterRef("pk"), last_used_at__isnull=False)
        return self.active().filter(~Exists(used))

    def unused(self) -> ApiKeyQuerySet:
        """Return active keys older than the `UNUSED_PERIOD` without a secret that was used in it."""
        cutoff = timezone.now() - UNUSED_PERIOD
        worked = Q(ends_at=None) | Q(ends_at__gt=cutoff)  # limits the secrets to read, however often a key was rotated
        used = StoredSecret.objects.filter(worked, api_key=OuterRef("pk"), last_used_at__gt=cutoff)
        return self.active().filter(~Exists(used), created_at__lte=cutoff)

    def expiring_soon(self) -> ApiKeyQuerySet:
        """Return active keys that expire in less than `EXPIRES_SOON_DAYS`."""
        return self.active().filter(expires_at__lt=timezone.now() + timedelta(days=EXPIRES_SOON_DAYS))

    def with_mark(self, mark: KeyMark) -> ApiKeyQuerySet:
        querysets = {
            KeyMark.NEVER_USED: self.never_used,
            KeyMark.UNUSED: self.unused,
            KeyMark.EXPIRES_SOON: self.expiring_soon,
        }
        return querysets[mark]()

    def with_marks(self) -> ApiKeyQuerySet:
        """Annotate each key with its marks."""
        key = self.model.objects.filter(workspace=OuterRef("workspace"), pk=OuterRef("pk"))
        return self.annotate(**{name: Exists(key.with_mark(mark)) for mark, name in _MARKS.items()})

    def count_marks(self) -> dict[KeyMark, int]:
        """Return the number of active keys with each mark, in one query."""
        marks = {mark.name: Count("pk", filter=Q(**{name: True})) for mark, name in _MARKS.items()}
        return {KeyMark[name]: number for name, number in self.active().with_marks().aggregate(**marks).items()}

    def matching(self, text: str) -> ApiKeyQuerySet:
        """Return keys whose description contains `text`, whose id it is, or with a secret whose key id matches it."""
        secrets = StoredSecret.objects.starting_with(text).filter(api_key=OuterRef("pk"))
        return self.filter(Q(description__icontains=text) | Q(pk=text) | Exists(secrets))

    def with_users(self) -> ApiKeyQuerySet:
        """Fetch the users who created and revoked the keys in the same query."""
        return self.select_related("created_by", "revoked_by")

    def with_secrets(self) -> ApiKeyQuerySet:
        """Fetch the current and previous secrets of all keys in one more query."""
        to_attr = "secrets_not_ended"
        return self.prefetch_related(Prefetch("secrets", StoredSecret.objects.not_ended().without_hashes(), to_attr))
