"""Paging by cursor: each task is listed exactly once, even while other tasks are created and deleted."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.helpers import BY_TEST, Api
from workspaces import quota
from workspaces.ids import new_id
from workspaces.models import Task, Workspace

pytestmark = pytest.mark.django_db

TASKS = "/workspaces/current/tasks"


def create_tasks(workspace: Workspace, count: int) -> list[str]:
    """Create tasks, and return their ids, newest first."""
    return [Task.objects.create_task(workspace, title=f"Task {number}").pk for number in range(count)][::-1]


def page(api: Api, cursor: str | None, limit: int, filters: str = "") -> tuple[list[str], str | None]:
    query = f"?limit={limit}{filters}" + (f"&cursor={cursor}" if cursor else "")
    body = api.get(TASKS + query).json()
    return [task["taskId"] for task in body["tasks"]], body["nextCursor"]


@pytest.mark.parametrize(("count", "limit", "lengths"), [(0, 5, [0]), (5, 5, [5]), (6, 5, [5, 1]), (10, 5, [5, 5])])
def test_the_last_page_has_no_next_cursor(
    count: int, limit: int, lengths: list[int], api: Api, workspace: Workspace
) -> None:
    expected = create_tasks(workspace, count)
    seen: list[str] = []
    cursor: str | None = None

    for length in lengths:
        tasks, cursor = page(api, cursor, limit)
        assert len(tasks) == length
        seen += tasks

    assert cursor is None
    assert seen == expected


def test_filters_apply_to_every_page(api: Api, workspace: Workspace) -> None:
    bugs = []
    for number in range(9):
        task = Task.objects.create_task(workspace, title=str(number), kind="bug" if number % 3 else "task")
        bugs += [task.pk] if task.kind == "bug" else []

    first, cursor = page(api, None, 4, "&kind=bug")
    second, end = page(api, cursor, 4, "&kind=bug")

    assert first + second == bugs[::-1]
    assert end is None


def test_the_page_size_can_change_between_pages(api: Api, workspace: Workspace) -> None:
    expected = create_tasks(workspace, 9)

    first, cursor = page(api, None, 2)
    second, end = page(api, cursor, 200)

    assert first + second == expected
    assert end is None


def test_a_cursor_works_after_its_task_was_deleted(api: Api, workspace: Workspace) -> None:
    expected = create_tasks(workspace, 6)
    _, cursor = page(api, None, 3)

    Task.objects.filter(pk=expected[2]).delete()

    assert page(api, cursor, 3) == (expected[3:], None)


def test_a_cursor_can_be_used_again(api: Api, workspace: Workspace) -> None:
    create_tasks(workspace, 6)
    _, cursor = page(api, None, 2)

    assert page(api, cursor, 2) == page(api, cursor, 2)


def test_a_cursor_past_the_oldest_task_gives_an_empty_last_page(api: Api, workspace: Workspace) -> None:
    oldest = create_tasks(workspace, 3)[-1]

    assert page(api, oldest, 3) == ([], None)


def test_a_cursor_of_another_workspace_shows_none_of_its_tasks(
    api: Api, workspace: Workspace, elsewhere: Workspace
) -> None:
    ours, theirs = create_tasks(workspace, 2), create_tasks(elsewhere, 2)

    assert page(api, theirs[0], 5) == (ours, None)


changes_per_page = st.lists(st.tuples(st.integers(0, 3), st.lists(st.integers(0, 40), max_size=4)), max_size=8)


@given(start=st.integers(0, 14), limit=st.integers(1, 5), changes=changes_per_page)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_task_is_repeated_or_skipped_while_others_are_created_and_deleted(
    start: int, limit: int, changes: list[tuple[int, list[int]]], api: Api, workspace: Workspace
) -> None:
    """`changes` has, for each page, how many tasks to create after it, and the positions of the tasks to delete."""
    Task.objects.all().delete()
    quota.clear(workspace, by=BY_TEST)
    initial = create_tasks(workspace, start)
    remaining_changes = iter(changes)
    deleted: set[str] = set()
    seen: list[str] = []
    cursor: str | None = None

    while True:
        tasks, cursor = page(api, cursor, limit)
        assert not deleted & set(tasks)
        seen += tasks
        if cursor is None:
            break
        count, positions = next(remaining_changes, (0, []))
        create_tasks(workspace, count)
        to_delete = {initial[position] for position in positions if position < len(initial)}
        deleted |= to_delete
        Task.objects.filter(pk__in=to_delete).delete()

    assert seen == sorted(set(seen), reverse=True)
    assert set(initial) - deleted <= set(seen) <= set(initial)


@pytest.mark.parametrize(
    "cursor",
    [
        "2",
        "null",
        "tsk_",
        "tsk_0000000000000000000000000",  # one character too short
        "tsk_000000000000000000000000000",  # one character too long
        "TSK_00000000000000000000000000",
        "tsk_0000000000000000000000000U",
        "tsk_0000000000000000000000000%00",
        "tsk_0000000000000000000000000%0A",
        "tsk_00000000000000000000000000,tsk_00000000000000000000000000",
        "key_00000000000000000000000000",
        "%FF%FE",
        "%ED%A0%80",
        "' OR 1=1 --",
        "x" * 5000,
    ],
)
def test_an_invalid_cursor_is_rejected(cursor: str, api: Api) -> None:
    response: Any = api.get(f"{TASKS}?cursor={cursor}")

    assert response.status_code == 400
    assert set(response.json()["errors"]) == {"cursor"}


def test_a_well_formed_cursor_that_was_never_issued_works(api: Api, workspace: Workspace) -> None:
    """A cursor is a position in the sort order. No task with this id needs to exist."""
    expected = create_tasks(workspace, 2)

    assert page(api, new_id("tsk"), 5) == (expected, None)
    assert page(api, "tsk_" + "0" * 26, 5) == ([], None)
