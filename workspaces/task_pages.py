"""A page of tasks, which is what nearly every request asks for: one statement of fixed text, its rows made JSON.

The ORM builds these queries in more time than the database takes to answer them, and a serializer takes that time
again. There are as many texts as ways to filter, some 900; a connection keeps
the 100 used last prepared.
"""

from collections.abc import Sequence
from typing import Any

from core.db.statements import fetch
from workspaces.models import TaskVisibility

# What a task is called in the API, and its column.
_SHOWN = {
    "taskId": "id",
    "workspaceId": "workspace_id",
    "title": "title",
    "description": "description",
    "status": "status",
    "kind": "kind",
    "scope": "scope",
    "visibility": "visibility",
    "userId": "user_id",
    "createdAt": "created_at",
    "updatedAt": "updated_at",
    "completedAt": "completed_at",
}
_STATEMENT = f"""
    SELECT {", ".join(f"task.{column}" for column in _SHOWN.values())},
        contributor.id, contributor.user_id, contributor.type
    FROM (
        SELECT * FROM workspaces_task
        WHERE workspace_id = %(workspace)s AND {{conditions}}
        ORDER BY id DESC LIMIT %(rows)s
    ) AS task
    LEFT JOIN workspaces_taskcontributor AS contributor ON contributor.task_id = task.id
    ORDER BY task.id DESC
"""  # noqa: S608, names of columns
_VISIBLE_TO_TEAM = f"visibility = '{TaskVisibility.TEAM}'"
_VISIBLE_TO_PERSON = f"({_VISIBLE_TO_TEAM} OR user_id = %(person)s)"


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
    """The newest `limit` tasks older than `cursor`, as the API shows them, and the next page's cursor; None: the last.

    A person sees their own private tasks; without one, as for a key, none is seen. A cursor is a place in the order,
    not a row: tasks that come and go in between move nothing.
    """
    conditions = [_VISIBLE_TO_PERSON if person_id else _VISIBLE_TO_TEAM]
    parameters: dict[str, Any] = {"workspace": workspace_id, "person": person_id, "rows": limit + 1}
    for column, values in (("status", status), ("scope", scope), ("kind", kind)):
        if values:
            named = {f"{column}_{place}": value for place, value in enumerate(sorted(set(values)))}
            conditions.append(f"{column} IN ({', '.join(f'%({name})s' for name in named)})")
            parameters |= named
    for condition, name, value in (("user_id = %(user)s", "user", user), ("id < %(cursor)s", "cursor", cursor)):
        if value:
            conditions.append(condition)
            parameters[name] = value

    tasks: list[dict[str, Any]] = []
    for *columns, place, contributor_id, contribution in fetch(
        _STATEMENT.format(conditions=" AND ".join(conditions)), parameters
    ):
        if not tasks or tasks[-1]["taskId"] != columns[0]:
            tasks.append(dict(zip(_SHOWN, columns, strict=True), contributors=[]))
        if place is not None:
            tasks[-1]["contributors"].append((place, {"userId": contributor_id, "type": contribution}))
    for task in tasks:  # in SQL this would have the whole page sorted once more
        task["contributors"] = [contributor for _, contributor in sorted(task["contributors"])]
    return tasks[:limit], tasks[limit - 1]["taskId"] if len(tasks) > limit else None
