"""Tasks and their contributors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import models, transaction
from django.utils import timezone

from core.db import contention
from workspaces.fields import LineField, LinesField
from workspaces.ids import IdField
from workspaces.models.users import User
from workspaces.models.workspaces import Workspace
from workspaces.validators import multiple_lines, single_line


class TaskStatus(models.TextChoices):
    IDEA = "idea"
    OPEN = "open"
    PLANNED = "planned"
    IN_PROGRESS = "in_progress"
    REVIEW = "review"
    BLOCKED = "blocked"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


class TaskKind(models.TextChoices):
    TASK = "task"
    BUG = "bug"


class TaskScope(models.TextChoices):
    TODO = "todo"
    INITIATIVE = "initiative"
    ONGOING = "ongoing"


class TaskVisibility(models.TextChoices):
    TEAM = "team"
    PRIVATE = "private"


class TaskContributionType(models.TextChoices):
    ASSIGNEE = "assignee"
    REVIEWER = "reviewer"


class TaskQuerySet(models.QuerySet["Task"]):
    def visible_to(self, user: User | None) -> TaskQuerySet:
        """Return the tasks that the person may see, or, for None, a key. Only its owner may see a private task.

        Must match the SQL of `task_page` (workspaces.task_pages), which serves the list.
        """
        team = models.Q(visibility=TaskVisibility.TEAM)
        return self.filter(team | models.Q(user=user) if user else team)

    @transaction.atomic
    def create_task(self, workspace: Workspace, *, contributors: Sequence[tuple[str, str]] = (), **fields: Any) -> Task:
        """Create a task. `contributors` are pairs of user id and `TaskContributionType`."""
        contention.about_to_read("tasks")
        contention.about_to_lock(contention.row(workspace.pk))  # by the foreign key: it may not be deleted meanwhile
        task = self.create(workspace=workspace, **fields)
        task.add_contributors(contributors)
        return task


class Task(models.Model):
    TITLE_MAX_LENGTH = 200
    DESCRIPTION_MAX_LENGTH = 20_000

    id = IdField("tsk")
    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="tasks", db_index=False)
    title = LineField(max_length=TITLE_MAX_LENGTH, validators=[single_line])
    description = LinesField(max_length=DESCRIPTION_MAX_LENGTH, blank=True, validators=[multiple_lines])
    status = models.CharField(max_length=12, choices=TaskStatus.choices, default=TaskStatus.OPEN)
    kind = models.CharField(max_length=4, choices=TaskKind.choices, default=TaskKind.TASK)
    scope = models.CharField(max_length=10, choices=TaskScope.choices, default=TaskScope.TODO)
    visibility = models.CharField(max_length=7, choices=TaskVisibility.choices, default=TaskVisibility.TEAM)
    user = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="tasks")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(auto_now=True)
    completed_at = models.DateTimeField(null=True, editable=False)

    objects = TaskQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]  # newest first
        indexes = [
            # For `task_page`: all tasks of the team, and those with one status, scope and kind.
            models.Index(fields=["workspace", "visibility", "-id"], name="task_of_team"),
            models.Index(
                fields=["workspace", "visibility", "status", "scope", "kind", "-id"], name="task_of_team_by_state"
            ),
            models.Index(
                fields=["workspace", "user", "visibility", "status", "scope", "kind", "-id"],
                name="task_of_owner_by_state",
            ),
            models.Index(fields=["workspace", "-id"], name="task_newest_first"),  # only for the release before
        ]

    def __str__(self) -> str:
        return self.title

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save, and set `completed_at` while the status is completed."""
        if self.status != TaskStatus.COMPLETED:
            self.completed_at = None
        elif self.completed_at is None:
            self.completed_at = timezone.now()
        super().save(*args, **kwargs)

    @transaction.atomic
    def update(self, *, contributors: Sequence[tuple[str, str]] | None = None, **changes: Any) -> None:
        """Save `changes`, and replace the contributors (pairs of user id and type) unless that is None.

        Locks and reloads the row, because `completed_at` depends on the status that is stored now. Raise
        `DoesNotExist` if the task has been deleted.
        """
        tasks = Task.objects.filter(workspace=self.workspace_id)
        self.refresh_from_db(from_queryset=tasks.select_for_update(no_key=True))
        for name, value in changes.items():
            setattr(self, name, value)
        self.save(update_fields=[*changes, "completed_at", "updated_at"])
        if contributors is not None:
            self.contributors.filter(workspace=self.workspace_id).delete()
            self.add_contributors(contributors)

    def add_contributors(self, contributors: Sequence[tuple[str, str]]) -> None:
        """Add contributors: pairs of user id and type."""
        TaskContributor.objects.bulk_create(
            TaskContributor(workspace_id=self.workspace_id, task=self, user_id=user_id, type=type_)
            for user_id, type_ in contributors
        )


class TaskContributor(models.Model):
    # Not null: a trigger sets it if the release before inserts a row. The next release drops it.
    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="+", null=True, db_index=False)
    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="contributors", db_index=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="contributions")
    type = models.CharField(max_length=8, choices=TaskContributionType.choices)

    class Meta:
        ordering = ["id"]
        indexes = [models.Index(fields=["workspace", "task"], name="task_contributor_of_task")]
        constraints = [models.UniqueConstraint(fields=["task", "user", "type"], name="task_contributor_unique")]

    def __str__(self) -> str:
        return f"{self.user_id} ({self.type})"
