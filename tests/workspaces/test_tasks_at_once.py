"""Concurrent requests that change one task."""

from functools import partial

from tests.helpers import Api, commits, lift_quota
from tests.processes import in_threads
from workspaces.models import Task, User, Workspace


@commits
def test_concurrent_updates_never_leave_a_private_task_without_an_owner(
    secret: str, workspace: Workspace, member: User
) -> None:
    lift_quota(workspace)
    task = Task.objects.create_task(workspace, title="Salary review", user=member)
    path = f"/workspaces/current/tasks/{task.pk}"
    for _ in range(10):
        Task.objects.filter(pk=task.pk).update(visibility="team", user=member)

        outcomes = in_threads(
            partial(Api(secret).patch, path, {"visibility": "private"}),
            partial(Api(secret).patch, path, {"userId": None}),
        )

        task.refresh_from_db()
        assert task.visibility == "team" or task.user_id == member.pk
        assert 200 in [getattr(outcome, "status_code", None) for outcome in outcomes]
