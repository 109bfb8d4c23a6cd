"""Paging by cursor: every task that stays appears exactly once, whatever is created and deleted meanwhile."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.helpers import Api
from workspaces import quota
from workspaces.ids import new_id
from workspaces.models import Task, Workspace

pytestmark = pytest.mark.django_db

TASKS = "/workspaces/current/tasks"


def make(workspace: Workspace, count: int) -> list[str]:
    """The ids of new tasks, newest first."""
    return [Task.objects.create_task(workspace, title=f"Task {number}").pk for number in range(count)][::-1]


def page(api: Api, cursor: str | None, limit: int, more: str = "") -> tuple[list[str], str | None]:
    query = f"?limit={limit}{more}" + (f"&cursor={cursor}" if cursor else "")
    body = api.get(TASKS + query).json()
    return [task["taskId"] for task in body["tasks"]], body["nextCursor"]


@pytest.mark.parametrize(("count", "limit", "lengths"), [(0, 5, [0]), (5, 5, [5]), (6, 5, [5, 1]), (10, 5, [5, 5])])
def test_the_last_page_has_no_next_cursor(
    count: int, limit: int, lengths: list[int], api: Api, workspace: Workspace
) -> None:
    expected = make(workspace, count)
    met: list[str] = []
    cursor: str | None = None

    for length in lengths:
        tasks, cursor = page(api, cursor, limit)
        assert len(tasks) == length
        met += tasks

    assert cursor is None
    assert met == expected


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
    expected = make(workspace, 9)

    first, cursor = page(api, None, 2)
    second, end = page(api, cursor, 200)

    assert first + second == expected
    assert end is None


def test_a_cursor_works_after_its_task_was_deleted(api: Api, workspace: Workspace) -> None:
    expected = make(workspace, 6)
    _, cursor = page(api, None, 3)

    Task.objects.filter(pk=expected[2]).delete()

    assert page(api, cursor, 3) == (expected[3:], None)


def test_a_cursor_can_be_used_again(api: Api, workspace: Workspace) -> None:
    make(workspace, 6)
    _, cursor = page(api, None, 2)

    assert page(api, cursor, 2) == page(api, cursor, 2)


def test_a_cursor_past_the_oldest_task_gives_an_empty_last_page(api: Api, workspace: Workspace) -> None:
    oldest = make(workspace, 3)[-1]

    assert page(api, oldest, 3) == ([], None)


def test_a_cursor_of_another_workspace_shows_none_of_its_tasks(
    api: Api, workspace: Workspace, elsewhere: Workspace
) -> None:
    ours, theirs = make(workspace, 2), make(elsewhere, 2)

    assert page(api, theirs[0], 5) == (ours, None)


changes = st.lists(st.tuples(st.integers(0, 3), st.lists(st.integers(0, 40), max_size=4)), max_size=8)


@given(start=st.integers(0, 14), limit=st.integers(1, 5), between=changes)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pages_repeat_and_skip_nothing_while_tasks_are_created_and_deleted(
    start: int, limit: int, between: list[tuple[int, list[int]]], api: Api, workspace: Workspace
) -> None:
    """After each page some tasks are made and some deleted: (how many are made, which places are deleted)."""
    Task.objects.all().delete()
    quota.clear(workspace.pk)
    at_first = make(workspace, start)
    script = iter(between)
    deleted: set[str] = set()
    met: list[str] = []
    cursor: str | None = None

    while True:
        tasks, cursor = page(api, cursor, limit)
        assert not deleted & set(tasks)
        met += tasks
        if cursor is None:
            break
        count, positions = next(script, (0, []))
        make(workspace, count)
        doomed = {at_first[position] for position in positions if position < len(at_first)}
        deleted |= doomed
        Task.objects.filter(pk__in=doomed).delete()

    assert met == sorted(set(met), reverse=True)
    assert set(at_first) - deleted <= set(met) <= set(at_first)


@pytest.mark.parametrize(
    "cursor",
    [
        "2",
        "null",
        "tsk_",
        "tsk_0000000000000000000000000",  # a character short
        "tsk_000000000000000000000000000",  # one too many
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
    """A cursor is a place in the order, so there is nothing in it that could be wrong."""
    expected = make(workspace, 2)

    assert page(api, new_id("tsk"), 5) == (expected, None)
    assert page(api, "tsk_" + "0" * 26, 5) == ([], None)
