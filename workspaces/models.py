"""People, the workspaces they share, and the workspaces' tasks."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, ClassVar

from django.contrib.auth.models import AbstractBaseUser, BaseUserManager, PermissionsMixin
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models, transaction
from django.db.models.functions import Lower
from django.utils import timezone

from workspaces.ids import IdField
from workspaces.validators import multiple_lines, single_line


class UserManager(BaseUserManager["User"]):
    def create_user(self, email: str, name: str, password: str | None = None, **fields: Any) -> User:
        user = self.model(email=email.strip().lower(), name=name, **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, name: str, password: str | None = None, **fields: Any) -> User:
        return self.create_user(email, name, password, is_staff=True, is_superuser=True, **fields)

    def get_by_natural_key(self, username: str | None) -> User:
        return self.get(email=(username or "").lower())


class User(AbstractBaseUser, PermissionsMixin):
    """A person. Signs in by email, whatever its case."""

    id = IdField("u")
    email = models.EmailField(max_length=254, unique=True, error_messages={"unique": "Someone has this email already."})
    name = models.CharField(max_length=100, validators=[single_line])
    is_active = models.BooleanField(default=True)
    is_staff = models.BooleanField("may use the admin", default=False)
    chosen_workspace = models.ForeignKey(
        "Workspace", on_delete=models.SET_NULL, null=True, blank=True, related_name="+", editable=False
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects: ClassVar[UserManager] = UserManager()

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = ["name"]

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(email=Lower("email")), name="user_email_lower_case")]

    def __str__(self) -> str:
        return self.email

    def reachable_workspaces(self) -> models.QuerySet[Workspace]:
        return self.workspaces.all()

    def current_workspace(self) -> Workspace:
        """The one chosen last, or the only one. Raises `NoneChosen`."""
        reachable = list(self.reachable_workspaces())
        chosen = [workspace for workspace in reachable if workspace.pk == self.chosen_workspace_id] or reachable
        if len(chosen) != 1:
            raise NoneChosen(reachable)
        return chosen[0]

    def choose(self, workspace: Workspace) -> None:
        self.chosen_workspace = workspace
        self.save(update_fields=["chosen_workspace"])

    @transaction.atomic
    def save(self, *args: Any, **kwargs: Any) -> None:
        """With what a changed password ends (oauth.passwords), or not at all."""
        super().save(*args, **kwargs)

    def clean_fields(self, exclude: Collection[str] | None = None) -> None:
        self.email = self.email.strip().lower()
        super().clean_fields(exclude)


class NoneChosen(Exception):
    """`current` means nothing yet to a person of several workspaces, or of none."""

    def __init__(self, workspaces: Sequence[Workspace]) -> None:
        names = ", ".join(f"{workspace.name} ({workspace.pk})" for workspace in workspaces)
        super().__init__(f"Choose one of your workspaces: {names}." if names else "You are in no workspace yet.")
        self.workspaces = workspaces


class Tier(models.Model):
    """A named quota: so many requests in a window, and so many in a shorter one, the burst."""

    MAX_REQUESTS = 10_000

    name = models.CharField(
        primary_key=True,
        max_length=32,
        validators=[
            RegexValidator(r"\A[a-z][a-z0-9-]*\Z", "Lower-case letters, digits and hyphens, a letter first."),
            RegexValidator(r"\Aburst\Z", "“burst” is the name of every tier's short window.", inverse_match=True),
        ],
    )
    requests = models.PositiveIntegerField(validators=[MinValueValidator(1), MaxValueValidator(MAX_REQUESTS)])
    seconds = models.PositiveIntegerField(validators=[MinValueValidator(1)])
    burst_requests = models.PositiveIntegerField(validators=[MinValueValidator(1), MaxValueValidator(MAX_REQUESTS)])
    burst_seconds = models.PositiveIntegerField(validators=[MinValueValidator(1)])

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(requests__gte=1, burst_requests__gte=1, seconds__gte=1, burst_seconds__gte=1)
                & models.Q(requests__lte=10_000, burst_requests__lte=10_000),
                name="tier_within_bounds",
                violation_error_message="A window takes 1 to 10,000 requests and lasts at least a second.",
            ),
            models.CheckConstraint(
                condition=models.Q(burst_seconds__lte=models.F("seconds")),
                name="tier_burst_is_shorter",
                violation_error_message="The burst's window can't be longer than the main one.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.requests}/{self.seconds} {self.burst_requests}/{self.burst_seconds}"


class WorkspaceManager(models.Manager["Workspace"]):
    @transaction.atomic
    def create_with_owner(self, owner: User, *, name: str, slug: str) -> Workspace:
        workspace = self.create(name=name, slug=slug)
        workspace.add_member(owner, Role.OWNER)
        return workspace

    def lock(self, workspace_id: str) -> Workspace:
        """The workspace, held until the transaction ends: what is counted meanwhile stays counted.

        SQLite has no row locks and needs none, since there a transaction begins with the write lock.
        """
        return self.select_for_update(no_key=True).get(pk=workspace_id)


class Workspace(models.Model):
    """The tenant: it owns tasks, members, API keys and a quota."""

    id = IdField("w")
    name = models.CharField(max_length=100, validators=[single_line])
    slug = models.SlugField(max_length=50, unique=True)
    tier = models.ForeignKey(Tier, on_delete=models.PROTECT, default="standard")
    members: models.ManyToManyField[User, Membership] = models.ManyToManyField(
        User, through="Membership", related_name="workspaces"
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    suspended_at = models.DateTimeField(null=True, editable=False)
    suspend_reason = models.CharField(max_length=200, blank=True, editable=False, validators=[single_line])

    objects: ClassVar[WorkspaceManager] = WorkspaceManager()

    class Meta:
        ordering = ["name", "id"]

    def __str__(self) -> str:
        return self.name

    def key_managers(self) -> models.QuerySet[Membership]:
        """The owners, then the admins, oldest first."""
        managing = self.memberships.filter(role__in=KEY_MANAGERS).select_related("user")
        return managing.order_by(models.Case(models.When(role=Role.OWNER, then=0), default=1), "id")

    def add_member(self, user: User, role: Role) -> Membership:
        return self.memberships.create(user=user, role=role)

    def suspend(self, reason: str) -> bool:
        """Refuses the workspace's keys, from the next request on, until `resume`. Its people are told the reason.

        False where it was suspended already.
        """
        return self._move(from_=None, to=timezone.now(), reason=reason)

    def resume(self) -> bool:
        """Lets the workspace's keys in again. False where it wasn't suspended."""
        return self.suspended_at is not None and self._move(from_=self.suspended_at, to=None, reason="")

    def _move(self, *, from_: datetime | None, to: datetime | None, reason: str) -> bool:
        found = Workspace.objects.filter(pk=self.pk, suspended_at=from_)
        changed = found.update(suspended_at=to, suspend_reason=reason)
        if changed:
            self.suspended_at, self.suspend_reason = to, reason
        return bool(changed)


class Role(models.TextChoices):
    OWNER = "owner"
    ADMIN = "admin"
    MEMBER = "member"


KEY_MANAGERS = (Role.OWNER, Role.ADMIN)


class WorkspaceSuspended(Exception):
    """The workspace is suspended, so nothing may be added to what can't be used."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"This workspace is suspended: “{reason}”. Keys can be added once it is resumed.")


class LastOwner(Exception):
    """A workspace is never without an owner."""

    def __init__(self) -> None:
        super().__init__("A workspace needs an owner: make someone else one first.")


class Membership(models.Model):
    """A person in a workspace. `change_role` and `leave` keep at least one owner, even when two go at once."""

    id = IdField("m")
    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="memberships")
    # PROTECT: deleting a person can't take a workspace's last owner away; they leave first.
    user = models.ForeignKey(User, on_delete=models.PROTECT, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role.choices, default=Role.MEMBER)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["workspace", "user"],
                name="membership_unique",
                violation_error_message="This person is in the workspace already.",
            ),
            models.CheckConstraint(condition=models.Q(role__in=Role.values), name="membership_role_known"),
        ]

    def __str__(self) -> str:
        return f"{self.user} is {self.role} of {self.workspace}"

    @property
    def can_manage_keys(self) -> bool:
        return self.role in KEY_MANAGERS

    @transaction.atomic
    def change_role(self, role: Role) -> None:
        """Raises `LastOwner`."""
        if role != Role.OWNER:
            self._require_another_owner()
        self.role = role
        self.save(update_fields=["role"])

    @transaction.atomic
    def leave(self) -> None:
        """Raises `LastOwner`."""
        self._require_another_owner()
        self.delete()

    def _require_another_owner(self) -> None:
        Workspace.objects.lock(self.workspace_id)
        owners = Membership.objects.filter(workspace=self.workspace_id, role=Role.OWNER)
        if not owners.exclude(pk=self.pk).exists():
            raise LastOwner


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
        """What a person sees, or, without one, what a key sees: a private task is its owner's alone."""
        shared = models.Q(visibility=TaskVisibility.TEAM)
        return self.filter(shared | models.Q(user=user) if user else shared)

    @transaction.atomic
    def create_task(self, workspace: Workspace, *, contributors: Sequence[tuple[str, str]] = (), **fields: Any) -> Task:
        task = self.create(workspace=workspace, **fields)
        task.add_contributors(contributors)
        return task


class Task(models.Model):
    id = IdField("tsk")
    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="tasks", db_index=False)
    title = models.CharField(max_length=200, validators=[single_line])
    description = models.TextField(max_length=20_000, blank=True, validators=[multiple_lines])
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
        indexes = [models.Index(fields=["workspace", "-id"], name="task_newest_first")]

    def __str__(self) -> str:
        return self.title

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Keeps `completed_at` in step with the status, whoever changes it."""
        if self.status != TaskStatus.COMPLETED:
            self.completed_at = None
        elif self.completed_at is None:
            self.completed_at = timezone.now()
        super().save(*args, **kwargs)

    @transaction.atomic
    def update(self, *, contributors: Sequence[tuple[str, str]] | None = None, **changes: Any) -> None:
        """Saves just `changes`, and the contributors as (user id, type) where they are given.

        The row is locked and read anew, lest `completed_at` follow a status that another request has changed since.
        Raises `DoesNotExist` where the task was deleted meanwhile.
        """
        self.refresh_from_db(from_queryset=Task.objects.select_for_update(no_key=True))
        for name, value in changes.items():
            setattr(self, name, value)
        self.save(update_fields=[*changes, "completed_at", "updated_at"])
        if contributors is not None:
            self.contributors.all().delete()
            self.add_contributors(contributors)

    def add_contributors(self, contributors: Sequence[tuple[str, str]]) -> None:
        TaskContributor.objects.bulk_create(
            TaskContributor(task=self, user_id=user_id, type=type_) for user_id, type_ in contributors
        )


class TaskContributor(models.Model):
    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="contributors", db_index=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="contributions")
    type = models.CharField(max_length=8, choices=TaskContributionType.choices)

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["task", "user", "type"], name="task_contributor_unique")]

    def __str__(self) -> str:
        return f"{self.user_id} ({self.type})"
