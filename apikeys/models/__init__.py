from apikeys.models.api_key_querysets import ANY_STATUS, MAX_COUNT, ApiKeyQuerySet, ApiKeyStatus, KeyMark, KeyOrder
from apikeys.models.api_keys import (
    DEFAULT_OVERLAP,
    MAX_OVERLAP,
    ActiveKeyLimitReached,
    ApiKey,
    KeyAlreadyCreated,
    KeyAlreadyRotated,
    KeyNotCreated,
    KeyNotRotated,
    WorkspaceSuspended,
)
from apikeys.models.idempotency import IdempotencyKeyReused
from apikeys.models.stored_secrets import (
    LAST_USED_RESOLUTION,
    StoredSecret,
    StoredSecretQuerySet,
)
from apikeys.models.usage import ApiKeyUsage, ApiKeyUsageQuerySet, Counts, Interval, Period

__all__ = [
    "ANY_STATUS",
    "DEFAULT_OVERLAP",
    "LAST_USED_RESOLUTION",
    "MAX_COUNT",
    "MAX_OVERLAP",
    "ActiveKeyLimitReached",
    "ApiKey",
    "ApiKeyQuerySet",
    "ApiKeyStatus",
    "ApiKeyUsage",
    "ApiKeyUsageQuerySet",
    "Counts",
    "IdempotencyKeyReused",
    "Interval",
    "KeyAlreadyCreated",
    "KeyAlreadyRotated",
    "KeyMark",
    "KeyNotCreated",
    "KeyNotRotated",
    "KeyOrder",
    "Period",
    "StoredSecret",
    "StoredSecretQuerySet",
    "WorkspaceSuspended",
]
