"""A page of tasks, in one SQL statement whose rows become JSON directly.

Most requests read such a page. The ORM took longer to build its queries than the database took to answer them, and a
serializer took that time again. See "Pages of tasks" in docs/architecture.md.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import orjson
from django.db import connection

from core.db import contention
from core.db.statements import fetch
from workspaces.models import TaskKind, TaskScope, TaskStatus, TaskVisibility
from workspaces.serializers import TaskSerializer

# The columns by their names in the API. `taskId` is the first.
_COLUMNS = {name: field.source for name, field in TaskSerializer().fields.items() if name != "contributors"}
_SELECT = f"""
    SELECT {", ".join(f"task.{column}" for column in _COLUMNS.values())},
        contributor.id, contributor.user_id, contributor.type
    FROM ({{page}}) AS task
    LEFT JOIN workspaces_taskcontributor AS contributor
        ON contributor.workspace_id = task.workspace_id AND contributor.task_id = task.id
    ORDER BY task.id DESC
"""  # noqa: S608, names of columns
_NEWEST = """
    SELECT {columns} FROM workspaces_task
    WHERE workspace_id = %(workspace)s AND {conditions}
    ORDER BY id DESC LIMIT %(max_tasks)s
"""

# A filtered page: the newest of the newest tasks of each combination of a status, a scope and a kind. Each combination
# is one range of an index whose last column is the id, so this reads `max_tasks` index entries for each at most. To
# SQLite, CROSS JOIN also means: in this order.
_FILTERED = """
    WITH found AS MATERIALIZED ({groups})
    SELECT task.* FROM (SELECT * FROM found ORDER BY id DESC LIMIT %(max_tasks)s) AS newest
    CROSS JOIN workspaces_task AS task WHERE task.workspace_id = newest.workspace_id AND task.id = newest.id
"""
_GROUP = "SELECT * FROM ({}) AS tasks"
_NEWEST_IDS = _NEWEST.format(columns="workspace_id, id", conditions="{conditions}")
_NEWEST_OF_ONE = _NEWEST_IDS.format(
    conditions="{conditions} AND status = each_status.value AND scope = each_scope.value AND kind = each_kind.value"
)
_NEWEST_OF_EACH = {
    "postgresql": f"""
        SELECT newest.workspace_id, newest.id
        FROM unnest(%(status)s::varchar[]) AS each_status (value)
        CROSS JOIN unnest(%(scope)s::varchar[]) AS each_scope (value)
        CROSS JOIN unnest(%(kind)s::varchar[]) AS each_kind (value)
        CROSS JOIN LATERAL ({_NEWEST_OF_ONE}) AS newest
    """,  # noqa: S608, constants
    "sqlite": f"""
        SELECT newest.workspace_id, newest.id
        FROM json_each(%(status)s) AS each_status
        CROSS JOIN json_each(%(scope)s) AS each_scope
        CROSS JOIN json_each(%(kind)s) AS each_kind
        CROSS JOIN workspaces_task AS newest
        WHERE (newest.workspace_id, newest.id) IN ({_NEWEST_OF_ONE})
    """,  # noqa: S608, constants; SQLite has no LATERAL
}

# Disjoint groups. Together they must match `TaskQuerySet.visible_to`, which serves single tasks.
_TEAM = f"visibility = '{TaskVisibility.TEAM}'"
_OWN_PRIVATE = f"visibility = '{TaskVisibility.PRIVATE}' AND user_id = %(person)s"


def task_page(
    workspace_id: str,
    person_id: str | None,
    *,
    limit: int,
    cursor: str = "",
    status: Sequence[str] = (),
    scope: Sequence[str] = (),
    kind: Sequence[str] = (),
    user: str = "",
) -> tuple[list[dict[str, Any]], str | None]:
    """Return a page of tasks as the API's JSON, newest first, and the cursor of the next page; None on the last page.

    Private tasks are included only for `person_id`, their owner. It is None for a key. `status`, `scope`, `kind` and
    `user` (the owner) filter the tasks. The page has at most `limit` tasks, all older than the task with the id
    `cursor`; that task may have been deleted.
    """
    params: dict[str, Any] = {"workspace": workspace_id, "max_tasks": limit + 1, "cursor": cursor}
    older = " AND id < %(cursor)s" if cursor else ""
    is_filtered = bool(status or scope or kind or user)
    if is_filtered or person_id:
        newest_of_each = _NEWEST_OF_EACH[connection.vendor]
        team = newest_of_each if is_filtered else _NEWEST_IDS
        groups = [team.format(conditions=_TEAM + (" AND user_id = %(user)s" if user else "") + older)]
        if person_id and user in ("", person_id):
            groups.append(newest_of_each.format(conditions=_OWN_PRIVATE + older))
        page = _FILTERED.format(groups=" UNION ALL ".join(map(_GROUP.format, groups)))
        params |= {
            "person": person_id,
            "user": user,
            "status": _array(status or TaskStatus.values),
            "scope": _array(scope or TaskScope.values),
            "kind": _array(kind or TaskKind.values),
        }
    else:  # most requests
        page = _NEWEST.format(columns="*", conditions=_TEAM + older)
    contention.about_to_read("tasks")
    tasks = _group_by_task(fetch(_SELECT.format(page=page), params))
    has_next_page = len(tasks) > limit
    return tasks[:limit], tasks[limit - 1]["taskId"] if has_next_page else None


def _array(values: Iterable[str]) -> Any:
    """Return the values, each once, as the parameter of `unnest` or `json_each`."""
    distinct = list(set(values))
    return distinct if connection.vendor == "postgresql" else orjson.dumps(distinct).decode()


def _group_by_task(rows: Iterable[tuple[Any, ...]]) -> list[dict[str, Any]]:
    """Return one dictionary per task. A task has one row per contributor, or one row if it has none."""
    tasks: list[dict[str, Any]] = []
    for *values, contributor_id, user_id, contribution_type in rows:
        if not tasks or tasks[-1]["taskId"] != values[0]:
            tasks.append(dict(zip(_COLUMNS, values, strict=True), contributors=[]))
        if contributor_id is not None:
            tasks[-1]["contributors"].append((contributor_id, {"userId": user_id, "type": contribution_type}))
    for task in tasks:  # sorted here, because ORDER BY with two columns would make the database sort the whole page
        task["contributors"] = [contributor for _, contributor in sorted(task["contributors"])]
    return tasks
