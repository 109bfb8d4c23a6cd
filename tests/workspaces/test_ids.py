"""Ids start with a prefix for their kind, and sort by creation time."""

from __future__ import annotations

import re

import pytest
import time_machine

from tests.helpers import BY_TEST, make_user
from tests.processes import in_threads
from workspaces import ids
from workspaces.ids import is_id, new_id
from workspaces.models import Task, Workspace


def test_an_id_is_its_prefix_and_26_characters_of_base32() -> None:
    assert re.fullmatch(r"tsk_[0-9a-hjkmnp-tv-z]{26}", new_id("tsk"))


def test_each_id_is_greater_than_the_one_before() -> None:
    created = [new_id("tsk") for _ in range(20_000)]

    assert created == sorted(set(created))


def test_ids_keep_their_order_when_the_clock_stands_still_or_steps_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids, "_last", 0)  # restored after the test: other ids must not be from the future
    with time_machine.travel(2_000_000_000, tick=False):
        stopped = [new_id("tsk") for _ in range(100)]
    with time_machine.travel(1_000_000_000, tick=False):
        stepped_back = [new_id("tsk") for _ in range(100)]

    assert stopped + stepped_back == sorted({*stopped, *stepped_back})


def test_ids_of_different_milliseconds_sort_by_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids, "_last", 0)  # an earlier test may have created ids in the future
    with time_machine.travel(2_000_000_000, tick=False) as clock:
        earlier = new_id("tsk")
        clock.shift(0.002)
        later = new_id("tsk")

    assert earlier[: len("tsk_") + 10] < later[: len("tsk_") + 10]


def test_threads_never_create_the_same_id_and_their_ids_increase() -> None:
    outcomes = in_threads(*[lambda: [new_id("tsk") for _ in range(2_000)]] * 8)

    created = [value for outcome in outcomes if isinstance(outcome, list) for value in outcome]
    assert len(set(created)) == 16_000
    assert all(outcome == sorted(outcome) for outcome in outcomes if isinstance(outcome, list))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "w_",
        "w_01m2x7",
        "w_" + "0" * 25,
        "w_" + "0" * 27,
        "w_" + "0" * 25 + "u",
        "w_" + "0" * 25 + "I",
        "w_" + "0" * 25 + "\n",
        "w_" + "0" * 26 + "\n",
        "w_" + "0" * 25 + "٣",
        "w_" + "0" * 25 + "\0",
        "W_" + "0" * 26,
        "w" + "0" * 26,
        "u_" + "0" * 26,
        " w_" + "0" * 26,
        "current",
    ],
)
def test_text_in_another_format_is_not_an_id(text: str) -> None:
    assert not is_id("w", text)


def test_a_new_id_is_valid_for_its_prefix_only() -> None:
    assert is_id("w", new_id("w"))
    assert is_id("w", "w_" + "0" * 26)
    assert not is_id("u", new_id("w"))
    assert not is_id("w", new_id("tsk"))


@pytest.mark.django_db
def test_the_database_sorts_ids_by_creation_too() -> None:
    workspace = Workspace.objects.create_with_owner(make_user("owner"), name="Acme", slug="acme", by=BY_TEST)
    created = [Task.objects.create_task(workspace, title=f"Task {number}").pk for number in range(50)]

    assert list(Task.objects.order_by("id").values_list("id", flat=True)) == created
    assert list(Task.objects.values_list("id", flat=True)) == created[::-1]
