"""The fast path on PostgreSQL: authenticate a verified key and count its request in one prepared statement.

Must give the same result as `StoredSecret.objects.authenticate` and `quota.admit`. See "The fused statement" in
docs/architecture.md.
"""

from functools import lru_cache
from itertools import islice
from typing import Any, TypeVar

from django.conf import settings
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


def _statement(*, columns: str, snapshot: str, locked: str, record: str, usage: dict[str, str]) -> str:
    """Return the statement. It checks the quota twice, by two conditions.

    `snapshot` is checked in the statement's snapshot, so that a full quota locks nothing, and `locked` under the row's
    lock, which decides.
    """
    returning = "".join(f", {expression} AS {name}" for name, expression in usage.items())
    returned = "".join(f", admitted.{name}" for name in usage)
    return f"""
        WITH known AS (
            SELECT {_SELECTED}, quota.admissions, quota.layout, {quota.sql.NOW} AS now,
                   {columns}
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
            SET {record}
            FROM known
            WHERE quota.subject = known.storedsecret_workspace_id AND {snapshot} AND {locked}
            RETURNING quota.admissions{returning}
        )
        SELECT {_ALIASES}, admitted.admissions IS NOT NULL, known.layout IS NULL, known.now,
               coalesce(admitted.admissions, known.admissions){returned}
        FROM known LEFT JOIN admitted ON true
    """  # noqa: S608, constants only


_LIMITS = (
    "known.tier_requests",
    f"known.tier_seconds * {quota.SECOND}::bigint",
    "known.tier_burst_requests",
    f"known.tier_burst_seconds * {quota.SECOND}::bigint",
)
# The statements for tiers without and with slots (`quota.has_slots`). Neither admits a request of a tier of the other
# kind. One statement for both would take a third more of the database's processor for tiers without slots.
_STATEMENTS = {
    False: _statement(
        columns="greatest(tier.requests, tier.burst_requests) AS max_admissions",
        snapshot=f"known.max_admissions <= {quota.MAX_EXACT}"
        f" AND {quota.sql.exact_admits('known.admissions', *_LIMITS, now='known.now')}",
        locked=f"{quota.sql.EXACT_IS_CURRENT} AND {quota.sql.exact_admits('quota.admissions', *_LIMITS)}",
        record=quota.sql.exact_record("known.max_admissions"),
        usage={},
    ),
    True: _statement(
        columns=f"quota.main_totals, quota.burst_totals, {quota.sql.OF_TIER}",
        snapshot=quota.sql.slots_admit("known", "known.now"),
        locked=f"{quota.sql.SLOTS_ARE_CURRENT} AND {quota.sql.slots_admit('quota', quota.sql.MOMENT)}",
        record=quota.sql.SLOTS_RECORD,
        usage=quota.sql.SLOTS_USAGE,
    ),
}
_in_slots: set[str] = set()  # key ids whose tier had slots at their last request in this process


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
        rows = fetch(_STATEMENTS[key_id in _in_slots], {"key_id": key_id, "hash": stored_hash})
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
    stored, tier = _instance(StoredSecret, secret_values), _tier(tier_values)
    _remember_kind(key_id, tier)
    decision = _decision(tier, *values) or quota.admit(stored.workspace_id, tier)
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


def _remember_kind(key_id: str, tier: Tier) -> None:
    """Choose the statement for the next request with this key."""
    if not quota.has_slots(tier):
        _in_slots.discard(key_id)
    elif key_id not in _in_slots:
        if len(_in_slots) >= settings.APIKEYS_PROOFS_MAX:
            _in_slots.clear()
        _in_slots.add(key_id)


def _decision(
    tier: Tier, is_admitted: bool, is_exact: bool, now: int, admissions: list[int] | None, *of_slots: int
) -> quota.Decision | None:
    """Return the decision, or None if the statement did not admit the request and `quota.admit` must decide.

    `is_exact`: the row had no slots in the statement's snapshot. `now` is the time of the statement. `admissions` are
    newest first; None if the quota had no row yet. `of_slots` are two numbers for each limit, see `sql.SLOTS_USAGE`.
    """
    limits = quota.limits_of(tier)
    if is_admitted and admissions:
        now = admissions[0]
        if of_slots:
            numbers = of_slots[:2], of_slots[2:]
            usages = [quota.usage_at(now, limit, *numbers[i]) for i, limit in enumerate(limits)]
        else:
            usages = [quota.usage_of(admissions, now, limit) for limit in limits]
        return quota.admitted(tier, usages, now)
    if admissions and admissions[0] <= now and is_exact and not quota.has_slots(tier):
        full = quota.status_at(tier, [quota.usage_of(admissions, now, limit) for limit in limits], now)
        # Concurrent requests may have taken the room that the snapshot had.
        return quota.rejected(tier, full) if full.retry_after else None
    return None
