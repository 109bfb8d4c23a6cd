"""The list of tasks reads a bounded number of rows for every filter, however many tasks match it or not."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection

from tests.helpers import Api, make_token
from workspaces.models import TaskKind, TaskScope, TaskStatus, User, Workspace

TASKS = 20_000
LIMIT = 20
COMBINATIONS = len(TaskStatus) * len(TaskScope) * len(TaskKind)
# For each combination of a team's and of an own task, and for the tasks of the page and their contributors.
MAX_ROWS = (2 * COMBINATIONS + 2) * (LIMIT + 1)
INSTRUCTIONS_PER_ROW = 6  # of SQLite, at least, for a row that a condition excludes

pytestmark = pytest.mark.django_db

# Half of the tasks are open, half are bugs, and none is both. The others, the oldest, are rare.
FILL = """
    WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < %(tasks)s)
    INSERT INTO workspaces_task
        (id, workspace_id, title, description, status, kind, scope, visibility, user_id, created_at, updated_at)
    SELECT 'tsk_' || substr(CAST(10000000 + n AS text), 2) || '0000000000000000000', %(workspace)s, 'Task', '',
        CASE WHEN n <= 30 THEN 'blocked' WHEN n %% 2 = 0 THEN 'open' ELSE 'completed' END,
        CASE WHEN n %% 2 = 0 THEN 'task' ELSE 'bug' END,
        CASE WHEN n <= 10 THEN 'initiative' ELSE 'todo' END,
        CASE WHEN n %% 5 = 0 THEN 'private' ELSE 'team' END,
        CASE WHEN n %% 5 = 0 THEN %(owner)s WHEN n <= 10 THEN %(member)s END,
        '2026-01-01', '2026-01-01'
    FROM numbers
"""
# Each query string, and how many tasks a key and the owner, who has all private tasks, see.
QUERIES = {
    "": (LIMIT, LIMIT),
    "status=open": (LIMIT, LIMIT),
    "status=blocked": (LIMIT, LIMIT),
    "status=idea": (0, 0),
    "status=idea&status=planned&status=review": (0, 0),
    "scope=initiative": (8, 10),
    "kind=bug": (LIMIT, LIMIT),
    "status=open&kind=bug": (0, 0),
    "status=blocked&scope=initiative&kind=bug": (4, 5),
    "userId={owner}": (0, LIMIT),
    "userId={owner}&status=blocked": (0, 6),
    "userId={member}": (8, 8),
    "userId={member}&status=open": (0, 0),
    "status=blocked&cursor={middle}": (LIMIT, LIMIT),
}


@pytest.fixture
def _many_tasks(workspace: Workspace, owner: User, member: User) -> None:
    parameters: dict[str, int | str] = {
        "tasks": TASKS,
        "workspace": workspace.pk,
        "owner": owner.pk,
        "member": member.pk,
    }
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":  # the planner's choice must not depend on when autovacuum ran
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute(FILL, parameters)
        if connection.vendor == "postgresql":
            cursor.execute("ANALYZE workspaces_task, workspaces_taskcontributor")


@pytest.mark.usefixtures("_many_tasks")
def test_each_filter_reads_a_bounded_number_of_rows(
    secret: str, workspace: Workspace, owner: User, member: User
) -> None:
    as_key, as_owner = Api(secret), Api(make_token(owner))
    values = {"owner": owner.pk, "member": member.pk, "middle": f"tsk_{TASKS // 2:07}{0:019}"}
    lengths, rows = {}, {}
    for query in QUERIES:
        path = f"/workspaces/{workspace.pk}/tasks?limit={LIMIT}&{query.format(**values)}".rstrip("&")
        counts = []
        for name, api in (("key", as_key), ("owner", as_owner)):
            statements: list[tuple[str, Any]] = []
            with connection.execute_wrapper(recorder(statements)):
                counts.append(len(api.get(path).json()["tasks"]))
            rows[name, query] = sum(rows_read(*item) for item in statements if "FROM workspaces_task" in item[0])
        lengths[query] = tuple(counts)

    assert lengths == QUERIES
    assert {case: count for case, count in rows.items() if count > MAX_ROWS} == {}


def recorder(statements: list[tuple[str, Any]]) -> Callable[..., Any]:
    def record(execute: Any, statement: str, parameters: Any, many: bool, context: Any) -> Any:
        statements.append((statement, parameters))
        return execute(statement, parameters, many, context)

    return record


def rows_read(statement: str, parameters: Any) -> int:
    """Return how many rows the statement reads. On SQLite, estimate them by the instructions of its virtual machine."""
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            hundreds: list[None] = []
            connection.connection.set_progress_handler(lambda: hundreds.append(None), 100)
            cursor.execute(statement, parameters)
            cursor.fetchall()
            connection.connection.set_progress_handler(None, 0)
            return len(hundreds) * 100 // INSTRUCTIONS_PER_ROW
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters)
        value = cursor.fetchone()[0]
    nodes = [(json.loads(value) if isinstance(value, str) else value)[0]["Plan"]]
    rows = 0
    for node in nodes:
        nodes += node.get("Plans", [])
        if "Relation Name" in node:
            rows += (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
    return int(rows)
