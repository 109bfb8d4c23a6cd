"""A page of tasks, in one SQL statement whose rows become JSON directly.

Most requests read such a page. The ORM took longer to build its queries than the database took to answer them, and a
serializer took that time again (docs/architecture.md). The filters result in about 900 statement variants; a connection
keeps the 100 that were used last prepared.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from core.db.statements import fetch
from workspaces.models import TaskVisibility
from workspaces.serializers import TaskSerializer

# The columns by their names in the API. `taskId` is the first.
_COLUMNS = {name: field.source for name, field in TaskSerializer().fields.items() if name != "contributors"}
_SELECT = f"""
    SELECT {", ".join(f"task.{column}" for column in _COLUMNS.values())},
        contributor.id, contributor.user_id, contributor.type
    FROM (
        SELECT * FROM workspaces_task
        WHERE workspace_id = %(workspace)s AND {{conditions}}
        ORDER BY id DESC LIMIT %(max_tasks)s
    ) AS task
    LEFT JOIN workspaces_taskcontributor AS contributor ON contributor.task_id = task.id
    ORDER BY task.id DESC
"""  # noqa: S608, names of columns
# Must match `TaskQuerySet.visible_to`, which serves single tasks.
_VISIBLE_TO_KEY = f"visibility = '{TaskVisibility.TEAM}'"
_VISIBLE_TO_PERSON = f"({_VISIBLE_TO_KEY} OR user_id = %(person)s)"


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
    conditions = [_VISIBLE_TO_PERSON if person_id else _VISIBLE_TO_KEY]
    params: dict[str, Any] = {"workspace": workspace_id, "person": person_id, "max_tasks": limit + 1}
    for column, values in (("status", status), ("scope", scope), ("kind", kind)):
        if values:
            choices = {f"{column}_{index}": value for index, value in enumerate(sorted(set(values)))}
            conditions.append(f"{column} IN ({', '.join(f'%({name})s' for name in choices)})")
            params |= choices
    if user:
        conditions.append("user_id = %(user)s")
        params["user"] = user
    if cursor:
        conditions.append("id < %(cursor)s")
        params["cursor"] = cursor

    tasks = _group_by_task(fetch(_SELECT.format(conditions=" AND ".join(conditions)), params))
    has_next_page = len(tasks) > limit
    return tasks[:limit], tasks[limit - 1]["taskId"] if has_next_page else None


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
