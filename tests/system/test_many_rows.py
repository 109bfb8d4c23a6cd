"""The admin's lists with 1,000,000 keys, and keys with a long history: every page reads a bounded number of rows."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext

from apikeys.models import ApiKey
from core.admin import BoundedPaginator, change_url, changelist_url
from tests.helpers import make_key, sign_in
from tests.processes import database_url
from workspaces.models import AuditEvent, User, Workspace

ROWS = 1_000_000
MAX_ROWS_READ = ROWS // 10  # including the up to 10,000 rows that the paginator counts

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(
        "connection.vendor != 'postgresql'",
        reason="reads PostgreSQL's query plans: set DATABASE_URL to a postgres:// URL",
    ),
]

# Every tenth key has a replaced secret, and every third of these still works. One key was rotated daily for ten years.
# Ids in order of creation; every tenth key revoked, every fiftieth expired, all in 10,000 workspaces.
FILL = """
    INSERT INTO workspaces_workspace (id, name, slug, tier_id, created_at, suspend_reason)
        SELECT 'w_' || lpad(n::text, 26, '0'), 'Customer ' || n, 'customer-' || n, 'standard', now(), ''
        FROM generate_series(1, 10000) AS n;
    INSERT INTO apikeys_apikey
        (id, workspace_id, description, created_at, created_by_id, expires_at, revoked_at, revoke_reason,
         request_digest)
        SELECT 'key_' || lpad(n::text, 26, '0'), 'w_' || lpad((mod(n, 10000) + 1)::text, 26, '0'),
               CASE WHEN mod(n, 2) = 0 THEN 'CI ' ELSE 'Worker ' END || n, now(),
               CASE WHEN mod(n, 5000) = 0 THEN '{owner}' END,
               CASE WHEN mod(n, 50) = 0 THEN now() - interval '1 day' END, CASE WHEN mod(n, 10) = 1 THEN now() END, '',
               ''
        FROM generate_series(1, {rows}) AS n;
    INSERT INTO apikeys_storedsecret (key_id, workspace_id, api_key_id, hash, fingerprint, created_at, request_digest)
        SELECT lpad(n::text, 12, '0'), 'w_' || lpad((mod(n, 10000) + 1)::text, 26, '0'),
               'key_' || lpad(n::text, 26, '0'), '$argon2id$', '', now(), ''
        FROM generate_series(1, {rows}) AS n;
    INSERT INTO apikeys_storedsecret
        (key_id, workspace_id, api_key_id, hash, fingerprint, created_at, replaced_at, ends_at, request_digest)
        SELECT 'Old' || lpad(n::text, 9, '0'), 'w_' || lpad((mod(n, 10000) + 1)::text, 26, '0'),
               'key_' || lpad(n::text, 26, '0'), '$argon2id$', '', now(), now(),
               now() + CASE WHEN mod(n, 3) = 0 THEN interval '1 day' ELSE interval '-1 day' END, ''
        FROM generate_series(7, {rows}, 10) AS n;
    INSERT INTO apikeys_storedsecret
        (key_id, workspace_id, api_key_id, hash, fingerprint, created_at, replaced_at, ends_at, request_digest)
        SELECT 'Daily' || lpad(n::text, 7, '0'), 'w_' || lpad('7778', 26, '0'), 'key_' || lpad('777777', 26, '0'),
               '$argon2id$', '', now() - n * interval '1 day', now(), now() - n * interval '1 day', ''
        FROM generate_series(1, 3650) AS n;
    INSERT INTO workspaces_auditevent (id, workspace_id, subject, action, via, details, created_at)
        SELECT 'evt_' || lpad(n::text, 26, '0'), 'w_' || lpad((mod(n, 10000) + 1)::text, 26, '0'), '',
               CASE WHEN mod(n, 10000) = 0 THEN 'workspace.suspended' ELSE 'api_key.created' END, 'page', '{{}}', now()
        FROM generate_series(1, 200000) AS n;
"""


@pytest.fixture(scope="module", autouse=True)
def _vacuumed(django_db_setup: None) -> Iterator[None]:
    """Vacuum the tables afterwards: the dead rows of the rolled back million would slow later tests."""
    yield
    if connection.vendor == "postgresql":
        with psycopg.connect(database_url(), autocommit=True) as vacuum:
            vacuum.execute("VACUUM workspaces_workspace, apikeys_apikey, apikeys_storedsecret, workspaces_auditevent")


@contextmanager
def many_keys(owner: User) -> Iterator[None]:
    """Insert the rows of `FILL`, and roll back at the end of the block.

    Without foreign keys and indexes this is faster. The indexes are created again afterwards.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        for table in ("apikeys_storedsecret", "apikeys_apikey", "workspaces_auditevent"):
            cursor.execute("SELECT conname FROM pg_constraint WHERE contype = 'f' AND conrelid = %s::regclass", [table])
            for (name,) in cursor.fetchall():
                cursor.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
        cursor.execute(
            """
            SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index
            WHERE indrelid = ANY ('{apikeys_apikey, apikeys_storedsecret, workspaces_auditevent}'::regclass[])
              AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)
            """
        )
        indexes = cursor.fetchall()
        for name, _ in indexes:
            cursor.execute(f"DROP INDEX {name}")
        cursor.execute(FILL.format(rows=ROWS, owner=owner.pk))
        for _, definition in indexes:
            cursor.execute(definition)
        cursor.execute("ANALYZE")
        yield
        transaction.set_rollback(True)


def test_each_list_reads_a_bounded_part_of_its_table(admin_client: Client, owner: User) -> None:
    with many_keys(owner):
        rows = rows_of_each_page(admin_client, owner)

    assert max(rows.values()) <= MAX_ROWS_READ, rows


def rows_of_each_page(admin_client: Client, owner: User) -> dict[str, int]:
    keys, events = changelist_url(ApiKey), changelist_url(AuditEvent)
    workspace = Workspace.objects.get(slug="customer-7")
    pages = {
        "keys": keys,
        "keys, page 100": f"{keys}?p=100",
        "active": f"{keys}?status=active",
        "revoked": f"{keys}?status=revoked",
        "expired": f"{keys}?status=expired",
        "of a workspace": f"{keys}?workspace={workspace.pk}",
        "by creator": f"{keys}?created_by={owner.pk}",
        "by a common description": f"{keys}?q=ci",
        "by a rare description": f"{keys}?q=Worker 99999",
        "by one description": f"{keys}?q=worker 777777",
        "by no description": f"{keys}?q=nothing like it",
        "by key id": f"{keys}?q=one_000000777777_…",
        "by the start of many key ids": f"{keys}?q=one_000",
        "by the start of a few key ids": f"{keys}?q=00000077777",
        "by the key id of a previous secret": f"{keys}?q=one_Old000777777_…",
        "by the start of the key ids of ended secrets": f"{keys}?q=Daily",
        "by a workspace's name": f"{keys}?q=customer 777",
        "by creator's email": f"{keys}?q={owner.email}",
        "events": events,
        "events of a workspace": f"{events}?workspace={workspace.pk}",
        "rare events": f"{events}?action=workspace.suspended",
        "events of the admin": f"{events}?via__exact=admin",
        "events about a person": f"{events}?subject={owner.pk}",
        "workspaces": changelist_url(Workspace),
        "a workspace": change_url(workspace),
        "a key": change_url(ApiKey.objects.get(secrets="000000123456")),
        "a key that was rotated daily": change_url(ApiKey.objects.get(secrets="000000777777")),
    }

    rows = {}
    for name, url in pages.items():
        with CaptureQueriesContext(connection) as queries:
            response = admin_client.get(url)
        assert response.status_code == 200
        assert len(queries) < 15, name
        # Statements of core.db are logged without parameters. The only one here reads a single row by its key.
        rows[name] = sum(
            rows_read(statement["sql"])
            for statement in queries.captured_queries
            if statement["sql"].startswith("SELECT") and "%(" not in statement["sql"]
        )
    return rows


def test_a_page_of_a_keys_history_reads_few_of_its_events(owner: User, api_key: ApiKey) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO workspaces_auditevent (id, workspace_id, subject, action, via, details, created_at)
                SELECT 'evt_' || lpad(n::text, 26, '0'), %s, %s, 'api_key.renamed', 'page', '{}', now()
                FROM generate_series(1, 10000) AS n
            """,
            [api_key.workspace_id, api_key.pk],
        )
        cursor.execute("ANALYZE workspaces_auditevent")
    url = f"/w/{api_key.workspace_id}/settings/developer/api-keys/{api_key.pk}/"

    for query in ("", f"?before=evt_{5_000:026}"):
        with CaptureQueriesContext(connection) as queries:
            page = sign_in(owner).get(url + query).content.decode()
        assert page.count("api_key.renamed") == 50 - (not query)  # the newest event is the key's creation
        statements = [item["sql"] for item in queries if 'FROM "workspaces_auditevent"' in item["sql"]]
        assert [rows_read(statement) < 500 for statement in statements] == [True]


def rows_read(statement: str) -> int:
    """Run the statement with EXPLAIN ANALYZE, and return the number of rows that it reads from all tables."""
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}")
        nodes = [cursor.fetchone()[0][0]["Plan"]]
    rows = 0
    for node in nodes:
        nodes += node.get("Plans", [])
        if "Relation Name" in node:
            rows += (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
    return rows


def test_a_list_shows_that_its_count_is_capped(
    admin_client: Client, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BoundedPaginator, "MAX_COUNT", 2)
    for _ in range(3):
        make_key(workspace)

    page: Any = admin_client.get(changelist_url(ApiKey))

    assert "First 2 API keys. There may be more" in page.content.decode()
