"""The bytes per row of each table, what the last use of a key costs, and the time of a backup."""

import os
import resource
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from bench.capacity.primary import Primary, primary
from bench.stage import Stage

FILL = [
    # One person and one membership for each workspace.
    """
    INSERT INTO workspaces_user (id, email, name, password, is_superuser, is_active, is_staff, created_at)
    SELECT 'u_' || lpad(i::text, 26, '0'), 'person-' || i || '@bench.example', 'Person ' || i,
           '$argon2id$v=19$m=19456,t=2,p=1$' || repeat(md5(i::text), 2), false, true, false, now()
    FROM generate_series(0, 99999) AS i
    """,
    """
    INSERT INTO workspaces_membership (id, workspace_id, user_id, role, created_at)
    SELECT 'm_' || lpad(i::text, 26, '0'), 'w_' || lpad(i::text, 26, '0'), 'u_' || lpad(i::text, 26, '0'), 'owner',
           now()
    FROM generate_series(0, 99999) AS i
    """,
    # Two tasks, each with a contributor, for each workspace without a usable key: requests list those of the others.
    """
    INSERT INTO workspaces_task (id, workspace_id, title, description, status, kind, scope, visibility, user_id,
                                 created_at, updated_at, completed_at)
    SELECT 'tsk_' || lpad((1000000 + 100000 * n + i)::text, 26, '0'), 'w_' || lpad(i::text, 26, '0'),
           'Webhook retries stop after redirect ' || i,
           repeat('A redirect ends the attempt, and the event is never sent again. ', 2),
           'open', 'task', 'todo', 'team', 'u_' || lpad(i::text, 26, '0'), now(), now(), NULL
    FROM generate_series(0, 1) AS n, generate_series(0, 99999) AS i WHERE i % 50 > 0
    """,
    """
    INSERT INTO workspaces_taskcontributor (task_id, user_id, type)
    SELECT id, user_id, 'assignee' FROM workspaces_task
    WHERE id BETWEEN 'tsk_' || lpad('1000000', 26, '0') AND 'tsk_' || lpad('1199999', 26, '0')
    """,
    """
    INSERT INTO workspaces_auditevent (id, workspace_id, subject, action, actor_id, via, client_ip, details, created_at)
    SELECT 'evt_' || lpad(i::text, 26, '0'), 'w_' || lpad((i % 100000)::text, 26, '0'),
           'key_' || lpad(i::text, 26, '0'), 'api_key.created', 'u_' || lpad((i % 100000)::text, 26, '0'), 'api',
           '192.0.2.7', jsonb_build_object('description', 'Nightly export ' || i), now()
    FROM generate_series(0, 199999) AS i
    """,
    # Ten hours of 20,000 keys, in the order in which processes write them.
    """
    INSERT INTO apikeys_apikeyusage (workspace_id, hour, api_key_id, admitted, rejected, client_errors, server_errors)
    SELECT workspace_id, timestamptz '2026-01-01 00:00Z' + hour * interval '1 hour', id, 40, 0, 1, 0
    FROM generate_series(0, 9) AS hour, apikeys_apikey WHERE id < 'key_' || lpad('20000', 26, '0')
    ORDER BY hour, random()
    """,
]
TABLES = {
    "workspace": "workspaces_workspace",
    "person": "workspaces_user",
    "membership": "workspaces_membership",
    "API key": "apikeys_apikey",
    "secret": "apikeys_storedsecret",
    "task": "workspaces_task",
    "contributor": "workspaces_taskcontributor",
    "audit event": "workspaces_auditevent",
    "usage of a key in an hour": "apikeys_apikeyusage",
    "quota, 160 admissions": "workspaces_quota",
}
SIZES = """
    SELECT reltuples::bigint, pg_total_relation_size(oid), pg_indexes_size(oid) FROM pg_class
    WHERE oid = %(table)s::regclass
"""
UPDATES = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'apikeys_storedsecret'"


def storage(stage: Stage) -> Iterator[str]:
    """Yield the lines of the tables. Fills the database `many` further."""
    with primary(stage, "many") as server:
        for statement in FILL:
            server.execute(statement)
        server.execute("VACUUM ANALYZE")
        yield "| | rows | bytes per row, with indexes | of which indexes |"
        yield "|---" * 4 + "|"
        for label, table in TABLES.items():
            rows, size, indexes = server.execute(SIZES, table=table)[0]
            yield f"| {label} | {rows:,} | {size / rows:,.0f} | {indexes / rows:,.0f} |"
        yield ""
        yield from _last_uses(stage, server)
        yield ""
        yield from _backup(stage)


def _last_uses(stage: Stage, server: Primary) -> Iterator[str]:
    """Yield a table: what saving the last use of a key writes."""
    yield "| saving the last use of 2,000 of 1,000,000 keys | WAL, bytes per key | without new index entries (HOT) |"
    yield "|---" * 3 + "|"
    for label, preparations, first in (
        ("full pages, after a checkpoint", ("CHECKPOINT",), 7),
        # The keys before these have left their pages.
        ("pages with room, after a checkpoint", ("VACUUM apikeys_storedsecret", "CHECKPOINT"), 8),
        ("the same keys again", (), 8),
    ):
        for statement in preparations:
            server.execute(statement)
        updated, hot = server.execute(UPDATES)[0]
        wal = server.wal_bytes()
        stage.run("-m", "bench.capacity.uses", str(first), database="many")
        written = server.wal_bytes() - wal
        updated_after, hot_after = server.execute(UPDATES)[0]
        yield f"| {label} | {written / 2000:,.0f} | {(hot_after - hot) / (updated_after - updated):.0%} |"


def _backup(stage: Stage) -> Iterator[str]:
    """Yield a table: how long a dump of the database `many` takes, and restoring it."""
    dump = stage.directory / "many.dump"
    stage.cluster.query("CREATE DATABASE restored")
    yield "| backup | MiB | seconds | processor seconds |"
    yield "|---" * 4 + "|"
    for label, program, *arguments in (
        ("dump", "pg_dump", "-Fc", "--no-unlogged-table-data", "-d", stage.url("many"), "-f", str(dump)),
        ("restore", "pg_restore", "--exit-on-error", "-d", stage.url("restored"), str(dump)),
    ):
        start, before = time.monotonic(), _processor_seconds(stage)
        subprocess.run([str(stage.cluster.programs / program), *arguments], check=True)
        seconds, used = time.monotonic() - start, _processor_seconds(stage) - before
        size = stage.cluster.query("SELECT pg_database_size('restored')")[0][0]
        size = dump.stat().st_size if program == "pg_dump" else size
        yield f"| {label} | {size / 2**20:,.0f} | {seconds:.0f} | {used:.0f} |"


def _processor_seconds(stage: Stage) -> float:
    """Return the time of the programs that have ended, and of PostgreSQL's connections that have ended."""
    programs = resource.getrusage(resource.RUSAGE_CHILDREN)
    stat = Path(f"/proc/{stage.cluster.processes()[0]}/stat").read_text()
    user, system = map(int, stat.rpartition(")")[2].split()[13:15])  # of children that have ended
    return programs.ru_utime + programs.ru_stime + (user + system) / os.sysconf("SC_CLK_TCK")
