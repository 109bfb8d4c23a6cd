"""Workspaces, their members and their tiers."""

from __future__ import annotations

from typing import Any, ClassVar, cast

from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models, transaction
from django.utils import timezone

from core.db import contention
from workspaces.fields import LineField
from workspaces.ids import IdField
from workspaces.models.audit import Action, Actor, AuditEvent, NotAllowed
from workspaces.models.users import User
from workspaces.validators import REASON_MAX_LENGTH, clean_text, single_line

MAX_REQUESTS = 1_000_000  # of a tier, in one window


class TierManager(models.Manager["Tier"]):
    def of_people(self) -> Tier:
        """Return the tier of each person's own quota, which OAuth tokens use."""
        return self.get(pk=Tier.DEFAULT)

    @transaction.atomic
    def create_tier(self, *, by: Actor, **fields: Any) -> Tier:
        """Create a tier with these fields. Raise `ValidationError` or `NotAllowed`."""
        by.require_operator()
        tier = self.model(**fields)
        tier.full_clean()
        tier.save(force_insert=True)
        changes = {name: [None, value] for name, value in fields.items()}
        AuditEvent.objects.record(Action.TIER_CREATED, by, subject=tier.pk, changes=changes)
        return tier


class Tier(models.Model):
    """A named quota: a limit of requests per window, and a burst limit for a shorter window. Windows are in seconds."""

    DEFAULT = "standard"  # the tier of new workspaces and of people; a migration creates it

    name = models.CharField(
        primary_key=True,
        max_length=32,
        validators=[
            RegexValidator(r"\A[a-z][a-z0-9-]*\Z", "Use lower-case letters, digits and hyphens. Start with a letter."),
            RegexValidator(r"\Aburst\Z", "“burst” is the name of every tier's short window.", inverse_match=True),
        ],
    )
    requests = models.PositiveIntegerField(validators=[MinValueValidator(1), MaxValueValidator(MAX_REQUESTS)])
    seconds = models.PositiveIntegerField(validators=[MinValueValidator(1)])
    burst_requests = models.PositiveIntegerField(validators=[MinValueValidator(1), MaxValueValidator(MAX_REQUESTS)])
    burst_seconds = models.PositiveIntegerField(validators=[MinValueValidator(1)])

    objects: ClassVar[TierManager] = TierManager()

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(requests__gte=1, burst_requests__gte=1, seconds__gte=1, burst_seconds__gte=1)
                & models.Q(requests__lte=MAX_REQUESTS, burst_requests__lte=MAX_REQUESTS),
                name="tier_within_bounds",
                violation_error_message=f"Requests must be 1 to {MAX_REQUESTS:,}, and seconds at least 1.",
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
    def create_with_owner(self, owner: User, *, name: str, slug: str, tier: Tier | None = None, by: Actor) -> Workspace:
        """Create a workspace, by default on the default tier, with `owner` as its only member. Raise `NotAllowed`."""
        by.require_operator()
        workspace = self.create(name=name, slug=slug, tier_id=tier.pk if tier else Tier.DEFAULT)
        changes = {"name": [None, name], "slug": [None, slug], "tier": [None, workspace.tier_id]}
        workspace.record(Action.WORKSPACE_CREATED, by, changes=changes)
        workspace.add_member(owner, Role.OWNER, by=by)
        return workspace

    def lock(self, workspace_id: str) -> Workspace:
        """Return the workspace with its row locked until the transaction ends. Use it before counting keys or owners.

        SQLite has no row locks: its transactions take the database's write lock when they begin.
        """
        contention.about_to_lock(contention.row(workspace_id))
        return self.select_for_update(no_key=True).get(pk=workspace_id)


class Workspace(models.Model):
    """The tenant. It owns tasks, members, API keys and a quota."""

    id = IdField("w")
    name = LineField(max_length=100, validators=[single_line])
    slug = models.SlugField(max_length=50, unique=True)
    tier = models.ForeignKey(Tier, on_delete=models.PROTECT, default=Tier.DEFAULT)
    members: models.ManyToManyField[User, Membership] = models.ManyToManyField(
        User, through="Membership", related_name="workspaces"
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    suspended_at = models.DateTimeField(null=True, editable=False)
    suspend_reason = LineField(max_length=REASON_MAX_LENGTH, blank=True, editable=False, validators=[single_line])

    objects: ClassVar[WorkspaceManager] = WorkspaceManager()

    class Meta:
        ordering = ["name", "id"]

    def __str__(self) -> str:
        return self.name

    def key_managers(self) -> models.QuerySet[Membership]:
        """Return the memberships that can manage keys: owners first, then admins, each in order of creation."""
        managers = self.memberships.filter(role__in=KEY_MANAGERS).select_related("user")
        return managers.order_by(models.Case(models.When(role=Role.OWNER, then=0), default=1), "id")

    def can_manage_keys(self, user: User) -> bool:
        """Return whether the person can manage keys now. Raise `Membership.DoesNotExist` for an outsider."""
        return self.memberships.get(user=user).can_manage_keys

    def require_key_manager(self, by: Actor) -> None:
        """Raise `NotAllowed` or, for an outsider, `Membership.DoesNotExist`, unless the actor can manage keys now.

        Call it in the transaction of the change, with the workspace locked.
        """
        by.require_active()
        if not (by.is_operator or self.can_manage_keys(cast(User, by.user))):
            raise KeyManagersOnly

    def require_member_manager(self, by: Actor, *roles: str) -> None:
        """Raise as `require_key_manager` does, unless the actor can add, change and remove members with these roles.

        Only an owner can make or unmake an owner.
        """
        by.require_active()
        if by.is_operator:
            return
        role = self.memberships.get(user=cast(User, by.user)).role
        if role not in KEY_MANAGERS or (Role.OWNER in roles and role != Role.OWNER):
            raise NotAllowed

    @transaction.atomic
    def add_member(self, user: User, role: Role, *, by: Actor) -> Membership:
        """Create a membership. Raise `IntegrityError` if the person is a member already, or `NotAllowed`."""
        Workspace.objects.lock(self.pk).require_member_manager(by, role)
        membership = self.memberships.create(user=user, role=role)
        membership.record(Action.MEMBERSHIP_CREATED, by, role=role)
        return membership

    @transaction.atomic
    def suspend(self, reason: str, *, by: Actor) -> bool:
        """Reject requests with the workspace's keys, from the next one until `resume`. Members see the reason.

        Return False, and keep the first reason, if the workspace is suspended already. Raise `ValidationError` for an
        invalid reason, or `NotAllowed`.
        """
        reason, now = _clean_reason(reason), timezone.now()
        Workspace.objects.lock(self.pk)
        by.require_operator()
        changed = Workspace.objects.filter(pk=self.pk, suspended_at=None).update(
            suspended_at=now, suspend_reason=reason
        )
        if changed:
            self.suspended_at, self.suspend_reason = now, reason
            self.record(Action.WORKSPACE_SUSPENDED, by, reason=reason)
        return bool(changed)

    @transaction.atomic
    def resume(self, reason: str = "", *, by: Actor) -> bool:
        """Accept the workspace's keys again. Return False if the workspace is not suspended.

        Raise `ValidationError` for an invalid reason, or `NotAllowed`.
        """
        reason = _clean_reason(reason)
        Workspace.objects.lock(self.pk)
        by.require_operator()
        suspended = Workspace.objects.filter(pk=self.pk, suspended_at__isnull=False)
        changed = suspended.update(suspended_at=None, suspend_reason="")
        if changed:
            self.suspended_at, self.suspend_reason = None, ""
            self.record(Action.WORKSPACE_RESUMED, by, reason=reason)
        return bool(changed)

    @transaction.atomic
    def change_tier(self, tier: Tier, *, by: Actor) -> bool:
        """Move the workspace to another tier, from its next request on. Return False if it has this tier already.

        Raise `NotAllowed`.
        """
        before = Workspace.objects.lock(self.pk).tier_id
        by.require_operator()
        self.tier = tier
        if before == tier.pk:
            return False
        self.save(update_fields=["tier"])
        self.record(Action.WORKSPACE_CHANGED, by, changes={"tier": [before, tier.pk]})
        return True

    def record(self, action: Action, by: Actor, **details: Any) -> None:
        """Write an audit event about this workspace. Call it in the transaction of the change."""
        AuditEvent.objects.record(action, by, workspace_id=self.pk, **details)


def _clean_reason(reason: str) -> str:
    """Return the reason, stripped and validated. Raise `ValidationError`."""
    return clean_text(Workspace._meta.get_field("suspend_reason"), reason, name="reason")


class Role(models.TextChoices):
    OWNER = "owner"
    ADMIN = "admin"
    MEMBER = "member"


KEY_MANAGERS = (Role.OWNER, Role.ADMIN)


class KeyManagersOnly(NotAllowed):
    """The person is a member whose role can't manage keys."""

    def __init__(self) -> None:
        super().__init__("Only owners and admins of the workspace can manage its API keys.")


class LastOwner(Exception):
    """The change would leave the workspace without an owner."""

    def __init__(self) -> None:
        super().__init__("A workspace needs an owner. Make another member an owner first.")


class Membership(models.Model):
    """A person's role in a workspace. `change_role` and `leave` keep at least one owner, also under concurrency."""

    id = IdField("m")
    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="memberships", db_index=False)
    # PROTECT: a person must leave first, so that deleting one can't remove a workspace's last owner.
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
    def change_role(self, role: Role, *, by: Actor) -> None:
        """Set the role. Raise `LastOwner`, `NotAllowed`, or `DoesNotExist` if the person has left already."""
        workspace = Workspace.objects.lock(self.workspace_id)
        before = Membership.objects.get(pk=self.pk).role
        workspace.require_member_manager(by, before, role)
        if role != Role.OWNER:
            self._require_another_owner()
        self.role = role
        if role != before:
            self.save(update_fields=["role"])
            self.record(Action.MEMBERSHIP_CHANGED, by, before=before, after=role)

    @transaction.atomic
    def leave(self, *, by: Actor) -> None:
        """Delete the membership. Everyone can leave; owners and admins can also remove others.

        Raise `LastOwner`, `NotAllowed`, or `DoesNotExist` if the person has left already.
        """
        workspace = Workspace.objects.lock(self.workspace_id)
        role = Membership.objects.get(pk=self.pk).role
        if by.user == self.user:
            by.require_active()
        else:
            workspace.require_member_manager(by, role)
        self._require_another_owner()
        self.record(Action.MEMBERSHIP_DELETED, by, role=role)
        self.delete()

    def record(self, action: Action, by: Actor, **details: str) -> None:
        """Write an audit event about this person in this workspace. Call it in the transaction of the change."""
        AuditEvent.objects.record(action, by, workspace_id=self.workspace_id, subject=self.user_id, **details)

    def _require_another_owner(self) -> None:
        owners = Membership.objects.filter(workspace=self.workspace_id, role=Role.OWNER)
        if not owners.exclude(pk=self.pk).exists():
            raise LastOwner
