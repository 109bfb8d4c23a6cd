"""Audit events: who changed which key, workspace, person, tier or application, when, and from which client IP."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from django.contrib.auth import get_user_model
from django.db import models
from django.http import HttpRequest
from django.utils import timezone

from core.client_ip import client_ip
from workspaces.ids import IdField, first_id

if TYPE_CHECKING:
    from workspaces.models.users import User

CLOCK_ERROR = timedelta(days=1)  # how wrong the clock may have been when an id was created


class Via(models.TextChoices):
    PAGE = "page"
    API = "api"
    ADMIN = "admin"
    COMMAND = "command"


class NotAllowed(Exception):
    """The actor may not make the change, or not any more. The message is for the person."""

    def __init__(self, message: str = "You don't have permission to do this.") -> None:
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Actor:
    """Who makes a change, through which interface, and from which client IP.

    A command has no client IP, and a user only if the operator named one.

    Each change requires in its own transaction that the actor may make it: a role that was read earlier in the request
    may have changed since.
    """

    via: Via
    user: User | None = None
    client_ip: str | None = None

    @classmethod
    def of(cls, request: HttpRequest, via: Via) -> Actor:
        """Return the actor of a request: its user and client IP."""
        return cls(via, request.user if request.user.is_authenticated else None, client_ip(request))

    @property
    def is_operator(self) -> bool:
        """Whether the change is made in the admin or by a command. Elsewhere it needs a role in the workspace."""
        return self.via in (Via.ADMIN, Via.COMMAND)

    def require_active(self) -> None:
        """Raise `NotAllowed` unless the person is active now and, in the admin or a command, staff.

        A command without a person may do everything.

        Locks the person's row until the transaction ends: a concurrent deactivation is either read here or waits.
        Lock the workspace first, so that no two changes wait for each other.
        """
        if self == COMMAND_ACTOR:
            return
        people = get_user_model()._default_manager.select_for_update(no_key=True)
        required = {"is_active": True} | ({"is_staff": True} if self.is_operator else {})
        if self.user is None or not people.filter(pk=self.user.pk, **required).values("pk"):
            raise NotAllowed

    def require_operator(self) -> None:
        """Raise `NotAllowed` unless this is a command or an active operator. See `require_active`."""
        if not self.is_operator:
            raise NotAllowed
        self.require_active()


COMMAND_ACTOR = Actor(Via.COMMAND)


class Action(models.TextChoices):
    """The kinds of audit event: an object and a verb."""

    ACCESS_TOKEN_REVOKED = "accesstoken.revoked"  # noqa: S105, not a secret
    API_KEY_CREATED = "api_key.created"
    API_KEY_PREVIOUS_SECRET_ENDED = "api_key.previous_secret_ended"  # noqa: S105, not a secret
    API_KEY_RENAMED = "api_key.renamed"
    API_KEY_REVOKED = "api_key.revoked"
    API_KEY_ROTATED = "api_key.rotated"
    APPLICATION_ALLOWED = "application.allowed"
    APPLICATION_CHANGED = "application.changed"
    APPLICATION_CREATED = "application.created"
    AUDIT_EVENTS_EXPORTED = "audit_events.exported"
    DEVICE_ALLOWED = "device.allowed"
    MEMBERSHIP_CHANGED = "membership.changed"
    MEMBERSHIP_CREATED = "membership.created"
    MEMBERSHIP_DELETED = "membership.deleted"
    REFRESH_TOKEN_REVOKED = "refreshtoken.revoked"  # noqa: S105, not a secret
    TIER_CHANGED = "tier.changed"
    TIER_CREATED = "tier.created"
    TIER_DELETED = "tier.deleted"
    USER_ACCESS_ENDED = "user.access_ended"
    USER_CHANGED = "user.changed"
    USER_CREATED = "user.created"
    USER_PASSWORD_CHANGED = "user.password_changed"  # noqa: S105, not a secret
    USER_PASSWORD_SET = "user.password_set"  # noqa: S105, not a secret
    USER_QUOTA_CLEARED = "user.quota_cleared"
    WORKSPACE_CHANGED = "workspace.changed"
    WORKSPACE_CREATED = "workspace.created"
    WORKSPACE_QUOTA_CLEARED = "workspace.quota_cleared"
    WORKSPACE_RESUMED = "workspace.resumed"
    WORKSPACE_SUSPENDED = "workspace.suspended"


class AuditEventQuerySet(models.QuerySet["AuditEvent"]):
    def about(self, subject: str) -> AuditEventQuerySet:
        """Return the events about the subject with this id, newest first, with their actors."""
        return self.filter(subject=subject).select_related("actor")

    # The conditions on the ids, which sort by creation, let the database use its indexes.

    def created_since(self, moment: datetime) -> AuditEventQuerySet:
        return self.filter(created_at__gte=moment, pk__gte=first_id("evt", moment, -CLOCK_ERROR))

    def created_before(self, moment: datetime) -> AuditEventQuerySet:
        return self.filter(created_at__lt=moment, pk__lt=first_id("evt", moment, CLOCK_ERROR))

    def on_days(self, first: date | None, last: date | None) -> AuditEventQuerySet:
        """Return the events from the first to the last day, in UTC, both included. None means no limit."""
        events = self
        if first is not None:
            events = events.created_since(datetime.combine(first, time.min, UTC))
        if last is not None and last < date.max:
            events = events.created_before(datetime.combine(last + timedelta(days=1), time.min, UTC))
        return events


_BaseManager = models.Manager.from_queryset(AuditEventQuerySet)  # named, because mypy can't read a call as a base class


class AuditEventManager(_BaseManager["AuditEvent"]):
    def record(
        self, action: Action, by: Actor, *, workspace_id: str | None = None, subject: str = "", **details: Any
    ) -> AuditEvent:
        """Create an event. Call it in the transaction of the change.

        `subject` is the id of the key, person, tier or application that the change is about, and blank for the
        workspace itself. `workspace_id` is None for a change outside of workspaces.
        """
        event = self._new(action, by, workspace_id, subject, details)
        event.save(force_insert=True)
        return event

    def record_each(
        self, action: Action, by: Actor, *, workspace_id: str, subjects: Iterable[str], **details: Any
    ) -> None:
        """Create an event for each subject, with few statements. See `record`."""
        events = [self._new(action, by, workspace_id, subject, details) for subject in subjects]
        self.bulk_create(events, batch_size=1000)

    def _new(
        self, action: Action, by: Actor, workspace_id: str | None, subject: str, details: dict[str, Any]
    ) -> AuditEvent:
        return self.model(
            action=action,
            workspace_id=workspace_id,
            subject=subject,
            actor=by.user,
            via=by.via,
            client_ip=by.client_ip,
            details=details,
        )


class AuditEvent(models.Model):
    """One change, recorded in its transaction. Events are never changed, and deleted only by `archive_events`.

    The subject is an id instead of a foreign key, so that it can refer to any model, and to a deleted row.
    """

    id = IdField("evt")
    workspace = models.ForeignKey(
        "workspaces.Workspace", on_delete=models.PROTECT, null=True, related_name="audit_events", db_index=False
    )
    subject = models.CharField(max_length=40, blank=True)
    action = models.CharField(max_length=50)
    actor = models.ForeignKey("workspaces.User", on_delete=models.SET_NULL, null=True, related_name="+", db_index=False)
    via = models.CharField(max_length=7, choices=Via.choices)
    client_ip = models.GenericIPAddressField("client IP", null=True)
    details = models.JSONField(default=dict)
    created_at = models.DateTimeField(default=timezone.now)

    objects = AuditEventManager()

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["workspace", "-id"], name="audit_event_newest_first"),
            models.Index(fields=["action", "-id"], name="audit_event_by_action"),
            models.Index(fields=["actor", "-id"], name="audit_event_by_actor"),
            models.Index(fields=["via", "-id"], name="audit_event_by_via"),
            models.Index(fields=["subject", "-id"], name="audit_event_by_subject"),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.subject}".rstrip()

    @property
    def sentence(self) -> str:
        """The change in words, for lists."""
        match self.action, self.details:
            case Action.API_KEY_CREATED, {"description": description}:
                return f"Created as “{description}”"
            case Action.API_KEY_RENAMED, {"before": before, "after": after}:
                return f"Renamed from “{before}” to “{after}”"
            case Action.API_KEY_REVOKED, {"reason": reason}:
                return f"Revoked: “{reason}”" if reason else "Revoked"
            case Action.API_KEY_ROTATED, {"secret": secret, "previous": previous, "ends_at": None}:
                return f"Rotated to {secret}; the old secret {previous} ended"
            case Action.API_KEY_ROTATED, {"secret": secret, "previous": previous, "ends_at": ends_at}:
                end = datetime.fromisoformat(ends_at)
                return f"Rotated to {secret}; the old secret {previous} works until {end:%-d %b %Y, %H:%M} UTC"
            case Action.API_KEY_PREVIOUS_SECRET_ENDED, {"secret": secret}:
                return f"Old secret {secret} ended"
            case Action.WORKSPACE_SUSPENDED, {"reason": reason}:
                return f"Suspended: “{reason}”"
            case Action.WORKSPACE_RESUMED, {"reason": reason}:
                return f"Resumed: “{reason}”" if reason else "Resumed"
            case Action.MEMBERSHIP_CHANGED, {"before": before, "after": after}:
                return f"Role changed from {before} to {after}"
            case Action.MEMBERSHIP_CREATED, {"role": role}:
                return f"Joined as {role}"
            case Action.MEMBERSHIP_DELETED, {"role": role}:
                return f"Removed as {role}"
            case Action.APPLICATION_ALLOWED, {"application": application, "scope": scope, "remembered": True}:
                return f"Allowed {application} again, without the consent page: {scope}"
            case Action.APPLICATION_ALLOWED | Action.DEVICE_ALLOWED, {"application": application, "scope": scope}:
                return f"Allowed {application}: {scope}"
            case Action.USER_ACCESS_ENDED, _:
                return "Sessions and tokens ended"
            case Action.WORKSPACE_QUOTA_CLEARED | Action.USER_QUOTA_CLEARED, _:
                return "Quota cleared"
            case Action.USER_PASSWORD_CHANGED | Action.USER_PASSWORD_SET, _:
                return "New password"
            case Action.AUDIT_EVENTS_EXPORTED, {"filters": filters}:
                return "; ".join(f"{name}: {value}" for name, value in sorted(filters.items())) or "All events"
            case _, {"changes": changes}:
                return "; ".join(f"{field}: {before} → {after}" for field, (before, after) in changes.items())
        return str(self.action)
