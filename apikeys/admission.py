"""The fast path on PostgreSQL: authenticate a verified key and count its request in one prepared statement.

Must give the same result as `StoredSecret.objects.authenticate` and `quota.admit`. See "The fused statement" in
docs/architecture.md.
"""

from functools import lru_cache
from itertools import islice
from typing import Any, TypeVar

from django.db import DEFAULT_DB_ALIAS, OperationalError, connections
from django.db.models import Model
from django.views.decorators.debug import sensitive_variables

from apikeys import keys
from apikeys.hashing import proofs
from apikeys.models import StoredSecret
from apikeys.principals import ApiKeyPrincipal
from core.db import contention
from core.db.statements import fetch
from core.metrics import count_proof
from workspaces import quota
from workspaces.models import Tier, Workspace

M = TypeVar("M", bound=Model)

_WORKSPACE: Any = StoredSecret._meta.get_field("workspace")
_ON_POSTGRESQL = connections[DEFAULT_DB_ALIAS].vendor == "postgresql"

_COLUMNS: dict[type[Model], list[str]] = {  # in the order of each model's fields, as `from_db` expects them
    StoredSecret: ["key_id", "workspace_id", "api_key_id", "replaced_at", "ends_at", "last_used_at"],
    Workspace: ["id", "name", "slug", "tier_id", "created_at"],
    Tier: ["name", "requests", "seconds", "burst_requests", "burst_seconds"],
}
_ALL_COLUMNS = [(model._meta.model_name, column) for model, columns in _COLUMNS.items() for column in columns]
_SELECTED = ", ".join(f"{table}.{column} AS {table}_{column}" for table, column in _ALL_COLUMNS)
_ALIASES = ", ".join(f"{table}_{column}" for table, column in _ALL_COLUMNS)

_LIMITS = (
    "known.tier_requests",
    f"known.tier_seconds * {quota.SECOND}::bigint",
    "known.tier_burst_requests",
    f"known.tier_burst_seconds * {quota.SECOND}::bigint",
)
# The quota is checked twice: in the statement's snapshot, so that a full quota locks nothing, and under the row's lock,
# which decides.
_STATEMENT = f"""
    WITH known AS (
        SELECT {_SELECTED}, quota.admissions AS before, {quota.NOW_SQL} AS now
        FROM apikeys_storedsecret AS storedsecret
        JOIN apikeys_apikey AS apikey ON apikey.id = storedsecret.api_key_id
        JOIN workspaces_workspace AS workspace ON workspace.id = storedsecret.workspace_id
        JOIN workspaces_tier AS tier ON tier.name = workspace.tier_id
        LEFT JOIN workspaces_quota AS quota ON quota.subject = workspace.id
        WHERE storedsecret.key_id = %(key_id)s AND storedsecret.hash = %(hash)s
          AND storedsecret.ended_at IS NULL
          AND (storedsecret.ends_at IS NULL OR storedsecret.ends_at > clock_timestamp())
          AND apikey.revoked_at IS NULL
          AND (apikey.expires_at IS NULL OR apikey.expires_at > clock_timestamp())
          AND workspace.suspended_at IS NULL
    ), admitted AS (
        UPDATE workspaces_quota AS quota
        SET admissions = {quota.record_sql("greatest(known.tier_requests, known.tier_burst_requests)")}
        FROM known
        WHERE quota.subject = known.storedsecret_workspace_id
          AND {quota.admissible_sql("known.before", *_LIMITS, now="known.now")}
          AND {quota.NOT_IN_FUTURE_SQL} AND {quota.admissible_sql("quota.admissions", *_LIMITS)}
        RETURNING quota.admissions
    )
    SELECT {_ALIASES}, admitted.admissions IS NOT NULL, coalesce(admitted.admissions, known.before), known.now
    FROM known LEFT JOIN admitted ON true
"""  # noqa: S608, constants only


@sensitive_variables()
def authenticate(secret: str) -> ApiKeyPrincipal | None:
    """Return the principal for a secret that this process has verified, with the quota's decision, or None.

    After None, fall back to `StoredSecret.objects.authenticate`: the secret may still be valid.
    """
    if not _ON_POSTGRESQL or contention.count_blocked():
        return None
    stored_hash = proofs.hash_of(secret)
    if stored_hash is None:
        return None
    key_id = keys.key_id_of(secret)
    try:
        rows = fetch(_STATEMENT, {"key_id": key_id, "hash": stored_hash})
    except OperationalError as error:
        if contention.is_lock_timeout(error):
            _block_quota(key_id)
        raise
    if not rows:
        return None
    count_proof("hit")
    values = iter(rows[0])
    secret_values, workspace_values, tier_values = (
        tuple(islice(values, len(columns))) for columns in _COLUMNS.values()
    )
    is_admitted, admissions, now = values
    stored, tier = _instance(StoredSecret, secret_values), _tier(tier_values)
    decision = quota.admitted(tier, admissions) if is_admitted else _decide(stored.workspace_id, tier, admissions, now)
    if decision.admitted:  # a rejected request never reads its workspace
        workspace = _instance(Workspace, workspace_values)
        _WORKSPACE.set_cached_value(stored, workspace)  # a plain assignment would consult the database routers
    return ApiKeyPrincipal(stored, decision)


def _block_quota(key_id: str) -> None:
    """Block the quota of the key's workspace, which the statement waited for. Its name is known only now.

    This query waits only if a whole table is locked, and then blocks the tables of API keys.
    """
    contention.about_to_read("API keys")
    if workspace_id := StoredSecret.objects.filter(key_id=key_id).values_list("workspace_id", flat=True).first():
        contention.block(quota.resource(workspace_id))


def _instance(model: type[M], values: tuple[Any, ...]) -> M:
    """Return a model instance; fields that the statement doesn't select are deferred."""
    return model.from_db(DEFAULT_DB_ALIAS, _COLUMNS[model], values)


@lru_cache(maxsize=256)
def _tier(values: tuple[Any, ...]) -> Tier:
    """Return the tier with these values, cached. A changed tier has other values, so it is never stale."""
    return _instance(Tier, values)


def _decide(subject: str, tier: Tier, before: list[int] | None, now: int) -> quota.Decision:
    """Return the decision on a request that the statement did not admit.

    `before` are the admissions in the statement's snapshot, newest first, or None if the quota had no row yet. `now` is
    the database's time. Both are in microseconds.
    """
    if before and not quota.is_in_future(before, now) and quota.delay(before, now, quota.limits_of(tier)) > 0:
        return quota.rejected(tier, before, now)
    # The quota has no row yet, the clock has stepped back, or concurrent requests took what room the snapshot had.
    return quota.admit(subject, tier)
