"""What belongs to a workspace has its id, in the row, in an index, and in every statement of an API request.

So a workspace can move to another database: see docs/scale.md.
"""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from django.apps import apps
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apikeys.models import ApiKey, ApiKeyUsage
from tests.helpers import Api
from workspaces.models import Task, TaskContributor, User, Workspace

pytestmark = pytest.mark.django_db

# Tables whose rows don't belong to a workspace, each with the reason.
GLOBAL = {
    "workspaces_workspace": "its id is the workspace id",
    "workspaces_quota": "its primary key, the subject, is the workspace id, or the id of a person",
    "workspaces_user": "a person can be in several workspaces",
    "workspaces_user_groups": "people who may use the admin",
    "workspaces_user_user_permissions": "people who may use the admin",
    "workspaces_tier": "operators assign tiers to many workspaces",
    "oauth_application": "people of all workspaces use an application",
    "oauth_devicegrant": "acts for a person",
    "oauth_grant": "acts for a person",
    "oauth_tokenfamily": "acts for a person",
    "oauth2_provider_accesstoken": "acts for a person",
    "oauth2_provider_idtoken": "acts for a person",
    "oauth2_provider_refreshtoken": "acts for a person",
    "django_session": "acts for a person",
    "onehorizon_housekeepingrun": "one row for the installation",
    "django_admin_log": "not used",
    "auth_group": "permissions of operators",
    "auth_group_permissions": "permissions of operators",
    "auth_permission": "permissions of operators",
    "django_content_type": "the models",
    "django_migrations": "the schema",
}
NULLABLE = {
    "workspaces_auditevent": "events about people, tiers and applications have no workspace",
    "workspaces_taskcontributor": "until the next release; a trigger sets it",
}


def workspace_tables() -> set[str]:
    """Return the tables with rows of workspaces."""
    tables = set(connection.introspection.table_names())
    if connection.vendor == "sqlite":
        tables.discard("sqlite_sequence")
    return tables - GLOBAL.keys()


def test_each_row_of_a_workspace_has_its_id() -> None:
    nullable = set()
    with connection.cursor() as cursor:
        for table in workspace_tables():
            columns = {column.name: column for column in connection.introspection.get_table_description(cursor, table)}
            assert "workspace_id" in columns, f"Add a workspace to {table}, or a reason to GLOBAL."
            if columns["workspace_id"].null_ok:
                nullable.add(table)

    assert nullable == NULLABLE.keys()


def test_each_table_of_workspaces_has_an_index_that_starts_with_the_workspace() -> None:
    with connection.cursor() as cursor:
        for table in workspace_tables():
            constraints = connection.introspection.get_constraints(cursor, table).values()
            columns = [
                item["columns"] for item in constraints if item["index"] or item["unique"] or item["primary_key"]
            ]
            assert any(index[0] == "workspace_id" and len(index) > 1 for index in columns), table


def test_the_global_tables_exist() -> None:
    unmanaged = {"workspaces_quota", "django_migrations"}

    assert GLOBAL.keys() - unmanaged <= {model._meta.db_table for model in apps.get_models(include_auto_created=True)}


REQUESTS: list[tuple[str, str, dict[str, Any] | None]] = [
    ("GET", "/me", None),
    ("GET", "/workspaces", None),
    ("GET", "/workspaces/current", None),
    ("GET", "/workspaces/current/members", None),
    ("GET", "/workspaces/current/usage", None),
    ("GET", "/workspaces/current/usage?interval=day", None),
    ("GET", "/workspaces/current/tasks", None),
    ("GET", "/workspaces/current/tasks?status=open&userId={user}", None),
    ("GET", "/workspaces/current/tasks/{task}", None),
    ("GET", "/workspaces/{workspace}/tasks", None),
    ("POST", "/workspaces/current/tasks", {"title": "Bug", "contributors": [{"userId": "{user}", "type": "reviewer"}]}),
    ("PATCH", "/workspaces/current/tasks/{task}", {"title": "New", "contributors": []}),
    ("DELETE", "/workspaces/current/tasks/{task}", None),
]
BY_KEY_ID = re.compile(r'\bkey_id"? = ')  # the lookup of the key, and changes of its row
# A change of a row that an earlier statement of the transaction has locked, with its workspace.
OF_LOCKED_ROW = re.compile(
    r'UPDATE "workspaces_task" SET .* WHERE "workspaces_task"\."id" = \S+$'
    r'|DELETE FROM "workspaces_taskcontributor" WHERE "workspaces_taskcontributor"\."task_id" IN \(\S+\)$'
    r'|DELETE FROM "workspaces_task" WHERE "workspaces_task"\."id" IN \(\S+\)$'
)


def names_workspace(statement: str) -> bool:
    """Return whether a condition or an inserted row of the statement has the workspace."""
    if statement.startswith("INSERT"):
        return "workspace_id" in statement
    _, _, conditions = statement.partition(" FROM ") if "SELECT" in statement else statement.partition(" WHERE ")
    return re.search(r'workspace_id"? (=|IN)|"workspaces_workspace"\."id" =', conditions) is not None


@pytest.mark.parametrize(("method", "path", "body"), REQUESTS)
def test_after_the_lookup_of_the_key_every_statement_names_the_workspace(
    method: str,
    path: str,
    body: dict[str, Any] | None,
    api: Api,
    api_key: ApiKey,
    workspace: Workspace,
    owner: User,
) -> None:
    task = Task.objects.create_task(workspace, title="Task", user=owner, contributors=[(owner.pk, "assignee")])
    ApiKeyUsage.objects.add({(api_key.pk, int(time.time()) // 3600 * 3600): (1, 0, 0, 0)})
    values = {"task": task.pk, "user": owner.pk, "workspace": workspace.pk}
    if body and body.get("contributors"):
        body = body | {"contributors": [{"userId": owner.pk, "type": "reviewer"}]}

    with CaptureQueriesContext(connection) as queries:
        response = api.request(method, path.format(**values), body)

    assert response.status_code < 300
    statements = [" ".join(query["sql"].split()) for query in queries]
    of_workspace = [
        sql for sql in statements if any(table in sql for table in workspace_tables()) and not BY_KEY_ID.search(sql)
    ]
    assert [sql for sql in of_workspace if not names_workspace(sql) and not OF_LOCKED_ROW.match(sql)] == []


def test_a_contributor_that_the_release_before_inserts_has_its_workspace(workspace: Workspace, owner: User) -> None:
    task = Task.objects.create_task(workspace, title="Task")
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO workspaces_taskcontributor (task_id, user_id, type) VALUES (%s, %s, 'assignee')",
            [task.pk, owner.pk],
        )

    assert TaskContributor.objects.get(task=task).workspace == workspace
