"""The statements. Each decides by the database's clock."""

from typing import NamedTuple

from workspaces.quota.slots import LAST, SLOTS, TOTALS
from workspaces.quota.windows import MAX_EXACT, SECOND

MAX_TOTAL = 1_000_000_000  # of a row's totals, which are `integer`; `Slots.recorded` restarts them at 0

_NOW = {
    # Double precision is exact until 2255; `extract` returns `numeric`, which is slow.
    "postgresql": "(date_part('epoch', clock_timestamp()) * 1000000)::bigint",
    # Exact to the millisecond. SQLite reads its clock once per statement, after it has taken the write lock.
    "sqlite": "(CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER) * 1000)",
}
NOW = _NOW["postgresql"]

# ---- limits without slots ----


def exact_admits(
    admissions: str, requests: str, window: str, burst_requests: str, burst_window: str, now: str = NOW
) -> str:
    """Return PostgreSQL's condition for admitting a request. Every argument is SQL; the windows are in microseconds."""
    return (
        f"coalesce({admissions}[{requests}] <= {now} - {window}, true)"
        f" AND coalesce({admissions}[{burst_requests}] <= {now} - {burst_window}, true)"
    )


def exact_record(max_admissions: str) -> str:
    """Return PostgreSQL's assignment that adds the current time, cut to `max_admissions`."""
    return f"admissions = ARRAY[{NOW}] || quota.admissions[1:{max_admissions} - 1]"


# Without slots, and after the clock stepped back, with no time in the future, so that times stay in order.
EXACT_IS_CURRENT = f"quota.layout IS NULL AND quota.admissions[1] <= {NOW}"
_LIMIT_PARAMS = ("%(requests)s", "%(window)s", "%(burst_requests)s", "%(burst_window)s")
ADMIT = {
    "postgresql": f"""
        INSERT INTO workspaces_quota AS quota (subject, admissions) VALUES (%(subject)s, ARRAY[{NOW}])
        ON CONFLICT (subject) DO UPDATE
            SET {exact_record("%(max_admissions)s")}
            WHERE {EXACT_IS_CURRENT} AND {exact_admits("quota.admissions", *_LIMIT_PARAMS)}
        RETURNING admissions
    """,  # noqa: S608, constants
    # SQLite has no slices. Each admission adds one time and removes up to two beyond the maximum, so that a list that
    # is too long, because the limit was lowered, becomes shorter with each admission.
    "sqlite": """
        INSERT INTO workspaces_quota AS quota (subject, admissions) VALUES (%(subject)s, json_array({now}))
        ON CONFLICT (subject) DO UPDATE
            SET admissions = json_remove(
                '[' || {now} || ',' || substr(quota.admissions, 2),
                '$[' || %(max_admissions)s || ']',
                '$[' || %(max_admissions)s || ']'
            )
            WHERE quota.layout IS NULL AND json_extract(quota.admissions, '$[0]') <= {now}
              AND coalesce(json_extract(quota.admissions, '$[' || (%(requests)s - 1) || ']') <= {now} - %(window)s, 1)
              AND coalesce(
                    json_extract(quota.admissions, '$[' || (%(burst_requests)s - 1) || ']') <= {now} - %(burst_window)s,
                    1
                  )
        RETURNING admissions
    """.format(now=_NOW["sqlite"]),  # noqa: S608, constants
}

# ---- any row ----

READ = {
    vendor: f"""
        SELECT {now}, admissions, layout, main_totals, burst_totals
        FROM (SELECT %(subject)s AS subject) AS wanted LEFT JOIN workspaces_quota USING (subject)
    """  # noqa: S608, constants
    for vendor, now in _NOW.items()
}
# Creates the row, or locks it without a change. SQLite's transactions lock the database when they begin.
LOCK = """
    INSERT INTO workspaces_quota AS quota (subject, admissions) VALUES (%(subject)s, %(none)s)
    ON CONFLICT (subject) DO UPDATE SET admissions = quota.admissions WHERE false
    RETURNING subject
"""
WRITE = """
    UPDATE workspaces_quota
    SET admissions = %(admissions)s, layout = %(layout)s, main_totals = %(main_totals)s, burst_totals = %(burst_totals)s
    WHERE subject = %(subject)s
    RETURNING subject
"""
SUBJECTS = "SELECT subject FROM workspaces_quota WHERE subject > %(after)s ORDER BY subject LIMIT %(limit)s"
# Locks the rows first and skips locked ones: it must not wait for one row while it has locked others.
DELETE_IDLE = {
    "postgresql": f"""
        DELETE FROM workspaces_quota WHERE subject IN (
            SELECT subject FROM workspaces_quota AS quota
            WHERE subject BETWEEN %(first)s AND %(last)s AND quota.admissions[1] < {NOW} - %(idle)s
            FOR UPDATE SKIP LOCKED
        )
        RETURNING subject
    """,  # noqa: S608, constants
    "sqlite": """
        DELETE FROM workspaces_quota
        WHERE subject BETWEEN %(first)s AND %(last)s AND json_extract(admissions, '$[0]') < {now} - %(idle)s
        RETURNING subject
    """.format(now=_NOW["sqlite"]),  # noqa: S608, constants
}

# ---- limits in slots: parts of PostgreSQL's fused statement, in `apikeys/admission.py` ----

# Columns of `known`, from those of `tier`. See `rows.layout_of`.
OF_TIER = f"""
    CASE WHEN greatest(tier.requests, tier.burst_requests) > {MAX_EXACT}
        THEN ARRAY[tier.requests, tier.seconds, tier.burst_requests, tier.burst_seconds] END AS tier_layout,
    tier.seconds * {SECOND}::bigint AS main_window, tier.seconds * {SECOND}::bigint / {SLOTS} AS main_length,
    tier.burst_seconds * {SECOND}::bigint AS burst_window,
    tier.burst_seconds * {SECOND}::bigint / {SLOTS} AS burst_length
"""
# The time of the request: when its statement began, or when the last request was admitted while it waited.
MOMENT = "greatest(known.now, quota.admissions[1])"


class LimitSql(NamedTuple):
    """A limit of the tier in `known`. The formulas are those of `Slots`, with arrays that begin at 1.

    PostgreSQL prepares each operator at each execution, which takes longer than these calculations, so they have as few
    operators as possible.
    """

    name: str
    requests: str

    @property
    def length(self) -> str:
        return f"known.{self.name}_length"

    @property
    def window(self) -> str:
        return f"known.{self.name}_window"

    @property
    def totals(self) -> str:
        return f"{self.name}_totals"

    def admits(self, row: str, now: str) -> str:
        """Return the condition that the admission that has to leave the window first has left it."""
        totals = f"{row}.{self.totals}"
        leaving = f"width_bucket({totals}[{TOTALS}] - {self.requests}, {totals})"
        slot_end = f"({row}.admissions[1] / {self.length} - {LAST - 1} + {leaving}) * {self.length} - 1"
        return f"{slot_end} <= {now} - {self.window}"

    @property
    def record(self) -> str:
        """Return the assignment that adds an admission."""
        totals, total = f"quota.{self.totals}", f"quota.{self.totals}[{TOTALS}]"
        passed = f"least({MOMENT} / {self.length} - quota.admissions[1] / {self.length}, {LAST})::int"
        added = f"array_fill({total}, ARRAY[{passed}]) || ({total} + 1)"
        return f"{self.totals} = {totals}[{passed} + 1:{LAST}] || {added}"

    @property
    def usage(self) -> dict[str, str]:
        """Return the numbers for `slots.usage_at`, at the time of the newest admission."""
        totals, total = f"quota.{self.totals}", f"quota.{self.totals}[{TOTALS}]"
        newest, length = "quota.admissions[1]", self.length
        before = f"{totals}[(({newest} + 1 - {self.window}) / {length} - {newest} / {length})::int + {LAST}]"
        return {
            f"{self.name}_used": f"{total} - {before}",
            f"{self.name}_leaving": f"width_bucket(greatest({before}, {total} - {self.requests}), {totals})",
        }


MAIN = LimitSql("main", "known.tier_requests")
BURST = LimitSql("burst", "known.tier_burst_requests")


def slots_admit(row: str, now: str) -> str:
    """Return the condition that the row is in the tier's layout, and that both limits admit a request."""
    return f"{row}.layout = known.tier_layout AND {MAIN.admits(row, now)} AND {BURST.admits(row, now)}"


# The row has no time in the future, and its totals can grow.
SLOTS_ARE_CURRENT = f"""quota.admissions[1] <= {NOW}
    AND greatest(quota.{MAIN.totals}[{TOTALS}], quota.{BURST.totals}[{TOTALS}]) < {MAX_TOTAL}"""
SLOTS_RECORD = f"admissions = ARRAY[{MOMENT}], {MAIN.record}, {BURST.record}"
SLOTS_USAGE = MAIN.usage | BURST.usage
