"""A workspace's tasks over REST: create, fetch, filter, update, delete, and rejected requests."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from tests.helpers import BY_TEST, Api, lift_quota, make_token, make_user
from workspaces.ids import new_id
from workspaces.models import Task, TaskKind, TaskScope, TaskStatus, TaskVisibility, User, Workspace
from workspaces.task_pages import task_page

pytestmark = pytest.mark.django_db

TASKS = "/workspaces/current/tasks"
FIELDS = {
    "taskId",
    "workspaceId",
    "title",
    "description",
    "status",
    "kind",
    "scope",
    "visibility",
    "userId",
    "contributors",
    "createdAt",
    "updatedAt",
    "completedAt",
}


@pytest.fixture
def task(workspace: Workspace, member: User, admin: User) -> Task:
    return Task.objects.create_task(
        workspace,
        title="Billing page",
        description="In the new design.",
        user=member,
        contributors=[(member.pk, "assignee"), (admin.pk, "reviewer")],
    )


def task_path(task: Task) -> str:
    return f"{TASKS}/{task.pk}"


def titles(response: Any) -> list[str]:
    assert response.status_code == 200, response.content
    return [task["title"] for task in response.json()["tasks"]]


# ---- create, fetch, delete ----


@pytest.mark.parametrize("principal", ["key", "person"])
def test_the_location_of_a_new_task_names_its_workspace(
    principal: str, workspace: Workspace, member: User, secret: str
) -> None:
    api = Api(secret if principal == "key" else make_token(member))
    for workspace_id in ("current", workspace.pk):
        created = api.post(f"/workspaces/{workspace_id}/tasks", {"title": "Ship it"})

        assert created["Location"] == f"/api/v1/workspaces/{workspace.pk}/tasks/{created.json()['taskId']}"
        assert api.get(created["Location"].removeprefix("/api/v1")).json() == created.json()


def test_a_task_needs_a_title_and_has_defaults_for_the_rest(api: Api, workspace: Workspace) -> None:
    before = timezone.now()
    response = api.post(TASKS, {"title": "Ship it"})
    task = response.json()

    assert response.status_code == 201
    assert set(task) == FIELDS
    assert task["taskId"].startswith("tsk_")
    assert before - timedelta(seconds=1) <= (parse_datetime(task["createdAt"]) or before) <= timezone.now()
    assert task["createdAt"].endswith("Z")
    assert task | {"taskId": "", "createdAt": "", "updatedAt": ""} == {
        "taskId": "",
        "workspaceId": workspace.pk,
        "title": "Ship it",
        "description": "",
        "status": "open",
        "kind": "task",
        "scope": "todo",
        "visibility": "team",
        "userId": None,
        "contributors": [],
        "createdAt": "",
        "updatedAt": "",
        "completedAt": None,
    }


def test_a_task_accepts_every_writable_field(api: Api, member: User, admin: User) -> None:
    body = {
        "title": "CSV export drops the last row",
        "description": "Since Tuesday.\n\n\t- and only there",
        "status": "in_progress",
        "kind": "bug",
        "scope": "ongoing",
        "visibility": "team",
        "userId": member.pk,
        "contributors": [{"userId": member.pk, "type": "assignee"}, {"userId": admin.pk, "type": "reviewer"}],
    }

    created = api.post(TASKS, body).json()

    assert {name: created[name] for name in body} == body
    assert api.get(f"{TASKS}/{created['taskId']}").json() == created


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("status", status) for status in TaskStatus.values),
        *(("kind", kind) for kind in TaskKind.values),
        *(("scope", scope) for scope in TaskScope.values),
        ("visibility", TaskVisibility.TEAM.value),
    ],
)
def test_every_documented_choice_is_accepted(field: str, value: str, api: Api, task: Task) -> None:
    assert api.post(TASKS, {"title": "Ship it", field: value}).json()[field] == value
    assert api.patch(task_path(task), {field: value}).json()[field] == value


def test_the_models_have_the_documented_choices() -> None:
    statuses = "idea open planned in_progress review blocked completed cancelled"

    assert TaskStatus.values == statuses.split()
    assert TaskKind.values == ["task", "bug"]
    assert TaskScope.values == ["todo", "initiative", "ongoing"]
    assert TaskVisibility.values == ["team", "private"]


def test_fetch_and_list_return_the_same_task(api: Api, task: Task) -> None:
    assert api.get(TASKS).json() == {"tasks": [api.get(task_path(task)).json()], "nextCursor": None}


def test_a_deleted_task_is_gone(api: Api, task: Task) -> None:
    deleted = api.delete(task_path(task))

    assert (deleted.status_code, deleted.content) == (204, b"")
    assert api.get(task_path(task)).status_code == 404
    assert api.delete(task_path(task)).status_code == 404
    assert titles(api.get(TASKS)) == []


@pytest.mark.parametrize(
    "title",
    [
        "a",
        "Straße, naïve, Ωμέγα",
        "日本語のタスク",
        "👩‍👩‍👧 family",
        "x" * 200,
        "🐌" * 100,
        "<b>&amp;'\"\\</b>",
        "null",
        "0",
    ],
)
def test_a_title_is_returned_as_it_was_sent(title: str, api: Api) -> None:
    created = api.post(TASKS, {"title": title})

    assert created.status_code == 201
    assert api.get(f"{TASKS}/{created.json()['taskId']}").json()["title"] == title


def test_a_title_is_trimmed_and_a_description_is_not(api: Api) -> None:
    created = api.post(TASKS, {"title": "  Ship it  ", "description": "  code\n"}).json()

    assert (created["title"], created["description"]) == ("Ship it", "  code\n")


def test_the_response_is_json_in_utf_8(api: Api) -> None:
    response = api.post(TASKS, {"title": "Ωμέγα"})

    assert response["Content-Type"] == "application/json"
    assert '"title":"Ωμέγα"'.encode() in response.content


# ---- update ----


def test_an_update_keeps_the_fields_that_it_does_not_contain(api: Api, task: Task) -> None:
    before = api.get(task_path(task)).json()

    after = api.patch(task_path(task), {"status": "review"}).json()

    assert after["updatedAt"] > before["updatedAt"]
    assert after == before | {"status": "review", "updatedAt": after["updatedAt"]}
    assert api.get(task_path(task)).json() == after


def test_an_empty_update_is_accepted(api: Api, task: Task) -> None:
    before = api.get(task_path(task)).json()

    after = api.patch(task_path(task), {})

    assert after.status_code == 200
    assert after.json() == before | {"updatedAt": after.json()["updatedAt"]}


def test_a_title_can_be_changed_and_a_description_emptied(api: Api, task: Task) -> None:
    api.patch(task_path(task), {"title": "Invoices", "description": ""})

    task.refresh_from_db()
    assert (task.title, task.description) == ("Invoices", "")


def test_an_owner_can_be_set_and_removed(api: Api, task: Task, owner: User) -> None:
    assert api.patch(task_path(task), {"userId": owner.pk}).json()["userId"] == owner.pk
    assert api.patch(task_path(task), {"userId": None}).json()["userId"] is None
    assert api.get(task_path(task)).json()["userId"] is None


def test_contributors_are_replaced_as_a_whole(api: Api, task: Task, owner: User, member: User) -> None:
    contributors = [{"userId": owner.pk, "type": "reviewer"}, {"userId": member.pk, "type": "reviewer"}]

    assert api.patch(task_path(task), {"contributors": contributors}).json()["contributors"] == contributors
    assert api.get(task_path(task)).json()["contributors"] == contributors
    assert api.patch(task_path(task), {"contributors": []}).json()["contributors"] == []
    assert api.get(task_path(task)).json()["contributors"] == []


def test_a_person_can_be_assignee_and_reviewer_of_one_task(api: Api, member: User) -> None:
    both = [{"userId": member.pk, "type": "assignee"}, {"userId": member.pk, "type": "reviewer"}]

    assert api.post(TASKS, {"title": "Ship it", "contributors": both}).json()["contributors"] == both


def test_a_fetched_task_can_be_sent_back(api: Api, task: Task) -> None:
    fetched = api.get(task_path(task)).json()

    sent_back = api.patch(task_path(task), fetched)

    assert sent_back.status_code == 200
    assert sent_back.json() == fetched | {"updatedAt": sent_back.json()["updatedAt"]}


def test_a_fetched_task_can_be_sent_back_after_its_people_have_left(
    api: Api, task: Task, workspace: Workspace, member: User, admin: User
) -> None:
    for user in (member, admin):
        workspace.memberships.get(user=user).leave(by=BY_TEST)
    fetched = api.get(task_path(task)).json()

    sent_back = api.patch(task_path(task), fetched)

    assert sent_back.status_code == 200
    assert (sent_back.json()["userId"], sent_back.json()["contributors"]) == (member.pk, fetched["contributors"])


def test_a_person_who_has_left_can_not_be_added_again(api: Api, task: Task, workspace: Workspace, member: User) -> None:
    other = Task.objects.create_task(workspace, title="Another")
    workspace.memberships.get(user=member).leave(by=BY_TEST)

    assert api.patch(task_path(other), {"userId": member.pk}).status_code == 400
    assert api.post(TASKS, {"title": "Ship it", "userId": member.pk}).status_code == 400


def test_read_only_fields_are_ignored(api: Api, task: Task, elsewhere: Workspace) -> None:
    before = api.get(task_path(task)).json()
    read_only = {
        "taskId": new_id("tsk"),
        "workspaceId": elsewhere.pk,
        "createdAt": "2001-01-01T00:00:00Z",
        "updatedAt": "never",
        "completedAt": 7,
    }

    changed = api.patch(task_path(task), read_only)
    created = api.post(TASKS, read_only | {"title": "Ship it"})

    assert changed.status_code == 200
    assert changed.json() == before | {"updatedAt": changed.json()["updatedAt"]}
    assert created.status_code == 201
    assert created.json()["taskId"] != read_only["taskId"]
    assert created.json()["workspaceId"] == before["workspaceId"]
    assert created.json()["completedAt"] is None


def test_an_unknown_field_is_ignored(api: Api) -> None:
    assert api.post(TASKS, {"title": "Ship it", "colour": "red", "id": 1, "workspace": "w"}).status_code == 201


def test_concurrent_updates_of_different_fields_do_not_undo_each_other(api: Api, task: Task) -> None:
    """The second request reads the task before the first one writes it, and writes it afterwards."""
    stale = Task.objects.get(pk=task.pk)

    api.patch(task_path(task), {"status": "blocked", "userId": None})
    stale.update(title="Invoices")

    after = api.get(task_path(task)).json()
    assert (after["status"], after["userId"], after["title"]) == ("blocked", None, "Invoices")


def test_a_title_that_changes_while_a_task_is_completed_leaves_it_completed(api: Api, task: Task) -> None:
    stale = Task.objects.get(pk=task.pk)

    completed = api.patch(task_path(task), {"status": "completed"}).json()
    stale.update(title="Invoices")

    after = api.get(task_path(task)).json()
    assert (after["status"], after["completedAt"]) == ("completed", completed["completedAt"])


def test_a_title_that_changes_while_a_task_is_reopened_leaves_it_open(api: Api, task: Task) -> None:
    task.update(status="completed")
    stale = Task.objects.get(pk=task.pk)

    api.patch(task_path(task), {"status": "open"})
    stale.update(title="Invoices")

    after = api.get(task_path(task)).json()
    assert (after["status"], after["completedAt"]) == ("open", None)


def test_updating_a_task_that_was_deleted_meanwhile_is_404(api: Api, task: Task) -> None:
    """The API returns 404 for `Task.DoesNotExist`."""
    stale = Task.objects.get(pk=task.pk)

    api.delete(task_path(task))

    with pytest.raises(Task.DoesNotExist):
        stale.update(title="Invoices")


# ---- completion ----


def test_completing_a_task_sets_the_time_and_reopening_clears_it(api: Api, task: Task) -> None:
    before = timezone.now()

    completed = api.patch(task_path(task), {"status": "completed"}).json()["completedAt"]

    assert before <= (parse_datetime(completed) or before) <= timezone.now()
    assert api.patch(task_path(task), {"status": "review"}).json()["completedAt"] is None
    assert api.get(task_path(task)).json()["completedAt"] is None


def test_the_completion_time_is_kept_by_later_updates(api: Api, task: Task) -> None:
    with time_machine.travel("2030-05-01T12:00:00Z", tick=False):
        completed = api.patch(task_path(task), {"status": "completed"}).json()
    with time_machine.travel("2030-05-02T12:00:00Z", tick=False):
        renamed = api.patch(task_path(task), {"title": "Invoices", "status": "completed"}).json()

    assert completed["completedAt"] == "2030-05-01T12:00:00Z"
    assert (renamed["completedAt"], renamed["updatedAt"]) == ("2030-05-01T12:00:00Z", "2030-05-02T12:00:00Z")


def test_a_task_can_be_created_completed(api: Api) -> None:
    assert api.post(TASKS, {"title": "Ship it", "status": "completed"}).json()["completedAt"] is not None


def test_a_cancelled_task_is_not_completed(api: Api, task: Task) -> None:
    assert api.patch(task_path(task), {"status": "cancelled"}).json()["completedAt"] is None


# ---- filters ----


@pytest.fixture
def board(workspace: Workspace, member: User, owner: User) -> None:
    """Five tasks. Newest first, their titles are e, d, c, b, a."""
    for title, status, kind, scope, user in (
        ("a", "open", "task", "todo", member),
        ("b", "open", "bug", "todo", owner),
        ("c", "planned", "task", "initiative", member),
        ("d", "completed", "bug", "ongoing", None),
        ("e", "planned", "bug", "todo", member),
    ):
        Task.objects.create_task(workspace, title=title, status=status, kind=kind, scope=scope, user=user)


@pytest.mark.usefixtures("board")
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", "edcba"),
        ("?all=true", "edcba"),
        ("?all=False", "edcba"),
        ("?status=open", "ba"),
        ("?status=open&status=completed", "dba"),
        ("?status=open&status=open", "ba"),
        ("?status=review", ""),
        ("?kind=bug", "edb"),
        ("?kind=bug&kind=task", "edcba"),
        ("?scope=initiative&scope=ongoing", "dc"),
        ("?scope=todo", "eba"),
        ("?userId={member}", "eca"),
        ("?userId={owner}", "b"),
        ("?userId={unknown}", ""),
        ("?userId=nobody", ""),
        ("?status=planned&kind=bug", "e"),
        ("?status=planned&userId={member}", "ec"),
        ("?status=open&status=planned&kind=task&scope=todo&userId={member}", "a"),
        ("?status=planned&limit=1", "e"),
        ("?limit=200", "edcba"),
        ("?limit=1", "e"),
        ("?limit=5", "edcba"),
    ],
)
def test_filters_select_the_expected_tasks(query: str, expected: str, api: Api, member: User, owner: User) -> None:
    query_string = query.format(member=member.pk, owner=owner.pk, unknown=new_id("u"))

    assert "".join(titles(api.get(TASKS + query_string))) == expected


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("status=done", "status"),
        ("status=open&status=done", "status"),
        ("status=open,planned", "status"),
        ("status=", "status"),
        ("status=OPEN", "status"),
        ("kind=epic", "kind"),
        ("scope=all", "scope"),
        ("userId=" + "u" * 41, "userId"),
        ("userId=%00", "userId"),
        ("userId=", "userId"),
        ("cursor=", "cursor"),
        ("limit=", "limit"),
        ("all=perhaps", "all"),
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=-1", "limit"),
        ("limit=ten", "limit"),
        ("limit=1.5", "limit"),
        ("limit=1e2", "limit"),
        ("limit=%00", "limit"),
        ("limit=" + "9" * 400, "limit"),
        ("limit=" + "9" * 2000, "limit"),
        ("limit=Infinity", "limit"),
        ("limit=NaN", "limit"),
    ],
)
def test_an_invalid_query_is_rejected_with_its_field(query: str, field: str, api: Api) -> None:
    response = api.get(f"{TASKS}?{query}")

    assert response.status_code == 400
    assert list({name.partition(".")[0] for name in response.json()["errors"]}) == [field]


def test_a_list_without_a_limit_has_fifty_tasks(api: Api, workspace: Workspace) -> None:
    Task.objects.bulk_create(Task(workspace=workspace, title=str(number)) for number in range(51))

    assert len(titles(api.get(TASKS))) == 50


def test_a_list_has_two_hundred_tasks_at_most(api: Api, workspace: Workspace) -> None:
    Task.objects.bulk_create(Task(workspace=workspace, title=str(number)) for number in range(201))

    assert len(titles(api.get(f"{TASKS}?limit=200"))) == 200
    assert len(titles(api.get(f"{TASKS}?all=true"))) == 50


def test_the_number_of_queries_does_not_depend_on_the_length_of_the_list(
    api: Api, workspace: Workspace, member: User, django_assert_max_num_queries: Any
) -> None:
    for number in range(30):
        Task.objects.create_task(
            workspace, title=str(number), user=member, contributors=[(member.pk, "assignee"), (member.pk, "reviewer")]
        )
    api.get(TASKS)

    with django_assert_max_num_queries(4):  # the key, its quota, the tasks, their contributors
        assert len(titles(api.get(TASKS))) == 30


# ---- invalid input ----

LONG_LIST = [{"userId": "u", "type": "assignee"}] * 101

INVALID_FIELDS: list[tuple[str, Any, str]] = [
    ("title", "", "title"),
    ("title", "   ", "title"),
    ("title", None, "title"),
    ("title", 7, "title"),
    ("title", True, "title"),
    ("title", 1.5, "title"),
    ("title", ["Ship it"], "title"),
    ("title", {"text": "Ship it"}, "title"),
    ("title", "x" * 201, "title"),
    ("title", "two\nlines", "title"),
    ("title", "a\ttab", "title"),
    ("title", "NUL \0", "title"),
    ("title", "escape \x1b[31m", "title"),
    ("title", "delete \x7f", "title"),
    ("title", "C1 \x9b", "title"),
    ("title", "turned \u202e over", "title"),
    ("title", "isolated \u2067", "title"),
    ("title", "line \u2028 separator", "title"),
    ("description", None, "description"),
    ("description", 7, "description"),
    ("description", [], "description"),
    ("description", "x" * 20_001, "description"),
    ("description", "NUL \0", "description"),
    ("description", "escape \x1b[31m", "description"),
    ("description", "turned \u202e over", "description"),
    ("status", "done", "status"),
    ("status", "", "status"),
    ("status", None, "status"),
    ("status", 1, "status"),
    ("status", True, "status"),
    ("status", ["open"], "status"),
    ("status", {"open": 1}, "status"),
    ("status", "Open", "status"),
    ("status", " open", "status"),
    ("status", "NUL \0", "status"),
    ("kind", "epic", "kind"),
    ("kind", None, "kind"),
    ("scope", "all", "scope"),
    ("scope", [], "scope"),
    ("visibility", "public", "visibility"),
    ("visibility", None, "visibility"),
    ("userId", "", "userId"),
    ("userId", "nobody", "userId"),
    ("userId", "u_00000000000000000000000000", "userId"),
    ("userId", "member@example.com", "userId"),
    ("userId", 7, "userId"),
    ("userId", True, "userId"),
    ("userId", ["u"], "userId"),
    ("userId", {"userId": "u"}, "userId"),
    ("userId", "u" * 1000, "userId"),
    ("userId", "u_\0", "userId"),
    ("contributors", None, "contributors"),
    ("contributors", "u", "contributors"),
    ("contributors", 7, "contributors"),
    ("contributors", {}, "contributors"),
    ("contributors", ["u"], "contributors.0"),
    ("contributors", [None], "contributors.0"),
    ("contributors", [[]], "contributors.0"),
    ("contributors", [{}], "contributors.0.type"),
    ("contributors", [{}], "contributors.0.userId"),
    ("contributors", [{"userId": 7, "type": "assignee"}], "contributors.0.userId"),
    ("contributors", [{"userId": "u", "type": "boss"}], "contributors.0.type"),
    ("contributors", [{"userId": "u", "type": None}], "contributors.0.type"),
    ("contributors", [{"userId": "nobody", "type": "assignee"}], "contributors"),
    ("contributors", [{"userId": "u_00000000000000000000000000", "type": "reviewer"}], "contributors"),
    ("contributors", LONG_LIST, "contributors"),
]


@pytest.mark.parametrize(("field", "value", "error_field"), INVALID_FIELDS, ids=lambda value: repr(value)[:30])
def test_an_invalid_field_is_named_and_nothing_is_saved(
    field: str, value: Any, error_field: str, api: Api, task: Task, workspace: Workspace
) -> None:
    before = Task.objects.values().get(pk=task.pk)

    for response in (
        api.post(TASKS, {"title": "Ship it"} | {field: value}),
        api.patch(task_path(task), {field: value}),
    ):
        body = response.json()
        assert response.status_code == 400
        assert set(body) == {"code", "message", "errors"}
        assert body["code"] == 400
        assert error_field in body["errors"]
        assert error_field in body["message"]
        assert all(sentence.endswith(".") for sentences in body["errors"].values() for sentence in sentences)

    assert Task.objects.values().get() == before


def test_a_contributor_listed_twice_with_the_same_type_is_rejected(api: Api, member: User) -> None:
    duplicates = [{"userId": member.pk, "type": "assignee"}] * 2

    response = api.post(TASKS, {"title": "Ship it", "contributors": duplicates})

    assert response.json()["errors"] == {"contributors": ["A user is listed twice with the same type."]}


def test_members_of_another_workspace_are_rejected_like_unknown_users(
    api: Api, task: Task, outsider: User, elsewhere: Workspace
) -> None:
    for field, outsider_value, unknown_value in (
        ("userId", outsider.pk, new_id("u")),
        (
            "contributors",
            [{"userId": outsider.pk, "type": "assignee"}],
            [{"userId": new_id("u"), "type": "assignee"}],
        ),
    ):
        assert api.patch(task_path(task), {field: outsider_value}).status_code == 400
        assert (
            api.patch(task_path(task), {field: outsider_value}).content
            == api.patch(task_path(task), {field: unknown_value}).content
        )


def test_all_invalid_fields_are_named_in_one_response(api: Api) -> None:
    response = api.post(TASKS, {"title": "", "status": "done", "contributors": [{"type": "boss"}]})

    assert set(response.json()["errors"]) == {"title", "status", "contributors.0.userId", "contributors.0.type"}


@pytest.mark.parametrize("body", [[], ["title"], "title", 7, True, None, [{"title": "Ship it"}]])
def test_a_body_that_is_not_an_object_is_rejected(body: Any, api: Api, task: Task) -> None:
    raw = {"data": json.dumps(body), "content_type": "application/json"}

    for response in (api.request("POST", TASKS, **raw), api.request("PATCH", task_path(task), **raw)):
        assert response.status_code == 400
        assert response.json() == {
            "code": 400,
            "message": "Invalid fields: body.",
            "errors": {"body": ["This must be a JSON object."]},
        }


def test_creating_a_task_without_a_body_is_rejected(api: Api) -> None:
    response = api.request("POST", TASKS)

    assert response.status_code == 400
    assert response.json()["errors"] == {"body": ["This must be a JSON object."]}


def test_an_update_without_a_body_is_rejected(api: Api, task: Task) -> None:
    response = api.request("PATCH", task_path(task))

    assert response.status_code == 400
    assert response.json()["errors"] == {"body": ["This must be a JSON object."]}


@pytest.mark.parametrize("field", ["status", "kind", "scope", "visibility", "userId"])
def test_a_secret_sent_in_the_wrong_field_is_not_echoed(field: str, api: Api, secret: str) -> None:
    for value in (secret, [secret], {secret: secret}):
        response = api.post(TASKS, {"title": "Ship it", field: value})

        assert response.status_code == 400
        assert secret.encode() not in response.content


@pytest.mark.parametrize("parameter", ["status", "kind", "scope", "limit", "cursor", "userId"])
def test_a_secret_sent_in_the_query_is_not_echoed(parameter: str, api: Api, secret: str) -> None:
    assert secret.encode() not in api.get(f"{TASKS}?{parameter}={secret}").content


# ---- private ----


def test_no_key_can_see_a_private_task(api: Api, workspace: Workspace, member: User) -> None:
    private = Task.objects.create_task(workspace, title="Salary review", user=member, visibility="private")

    assert titles(api.get(TASKS)) == []
    assert titles(api.get(f"{TASKS}?userId={member.pk}")) == []
    for response in (
        api.get(task_path(private)),
        api.patch(task_path(private), {"title": "Ours"}),
        api.delete(task_path(private)),
    ):
        assert response.status_code == 404
        assert response.content == api.get(f"{TASKS}/{new_id('tsk')}").content
    assert Task.objects.get().title == "Salary review"


def test_private_tasks_leave_no_gap_in_a_page(api: Api, workspace: Workspace, member: User) -> None:
    for number in range(6):
        visibility = "private" if number % 2 else "team"
        Task.objects.create_task(workspace, title=str(number), user=member, visibility=visibility)

    assert titles(api.get(f"{TASKS}?limit=3")) == ["4", "2", "0"]
    assert api.get(f"{TASKS}?limit=3").json()["nextCursor"] is None


def test_a_private_task_needs_an_owner(api: Api, task: Task, member: User) -> None:
    ownerless = api.post(TASKS, {"title": "Salary review", "visibility": "private"})
    task.update(user_id=None)

    assert ownerless.status_code == 400
    assert set(ownerless.json()["errors"]) == {"userId"}
    assert api.patch(task_path(task), {"visibility": "private"}).status_code == 400
    assert api.patch(task_path(task), {"visibility": "private", "userId": None}).status_code == 400
    assert api.patch(task_path(task), {"visibility": "private", "userId": member.pk}).status_code == 200


def test_a_key_that_makes_a_task_private_can_no_longer_see_it(api: Api, task: Task) -> None:
    assert api.patch(task_path(task), {"visibility": "private"}).json()["visibility"] == "private"

    assert api.get(task_path(task)).status_code == 404


def test_a_person_sees_their_own_private_tasks_and_nobody_elses(
    workspace: Workspace, member: User, admin: User
) -> None:
    private = Task.objects.create_task(workspace, title="Salary review", user=member, visibility="private")

    assert list(Task.objects.visible_to(member)) == [private]
    assert list(Task.objects.visible_to(admin)) == []
    assert list(Task.objects.visible_to(None)) == []


@pytest.mark.parametrize("person", [None, "member", "admin"])
def test_the_list_shows_the_tasks_of_visible_to(
    person: str | None, workspace: Workspace, elsewhere: Workspace, member: User, request: pytest.FixtureRequest
) -> None:
    """`person` is None for a key. `member` owns tasks, and `admin` owns none."""
    for owner in (None, member):
        for visibility in TaskVisibility.values:  # "private" without an owner is the state after the owner was deleted
            Task.objects.create_task(workspace, title="Ship", user=owner, visibility=visibility)
            Task.objects.create_task(elsewhere, title="Ship", user=owner, visibility=visibility)
    user = request.getfixturevalue(person) if person else None

    listed, _ = task_page(workspace.pk, user.pk if user else None, limit=50)

    visible = workspace.tasks.visible_to(user)
    assert [task["taskId"] for task in listed] == [task.pk for task in visible]
    assert len(listed) == (3 if person == "member" else 2)


def test_a_task_is_kept_when_its_owners_account_is_deleted(api: Api, task: Task, workspace: Workspace) -> None:
    user = make_user("passing")
    task.update(user_id=user.pk, contributors=[(user.pk, "assignee")])

    user.delete()

    fetched = api.get(task_path(task)).json()
    assert (fetched["userId"], fetched["contributors"]) == (None, [])


def test_tasks_sort_newest_first(api: Api, workspace: Workspace) -> None:
    lift_quota(workspace)
    for number in range(12):
        api.post(TASKS, {"title": str(number)})

    assert titles(api.get(TASKS)) == [str(number) for number in range(11, -1, -1)]
