"""Audit events: who did what to which key, workspace, person or tier, when, and from where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db import models
from django.utils import timezone

from workspaces.ids import IdField
from workspaces.models import User, Workspace

if TYPE_CHECKING:
    from apikeys.models import ApiKey


class Via(models.TextChoices):
    PAGE = "page"
    API = "api"
    ADMIN = "admin"
    COMMAND = "command"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who changes something, through what, and from which address. A command has no person and no address."""

    via: Via
    user: User | None = None
    address: str | None = None


class AuditEventManager(models.Manager["AuditEvent"]):
    def record(
        self,
        action: str,
        by: Actor,
        *,
        workspace_id: str | None = None,
        api_key: ApiKey | None = None,
        subject: str = "",
        details: dict[str, Any],
    ) -> None:
        """The one way an event comes to be; to be called in the transaction of the change."""
        self.create(
            action=action,
            workspace_id=workspace_id,
            api_key=api_key,
            subject=subject,
            actor=by.user,
            via=by.via,
            address=by.address,
            details=details,
        )


class AuditEvent(models.Model):
    """Who did what to which key, when, from where. Written in the transaction of the change; never changed.

    What is about a person or a tier has a `subject`, their id or its name; what is about no one workspace has none.
    """

    id = IdField("evt")
    workspace = models.ForeignKey(
        Workspace, on_delete=models.PROTECT, null=True, related_name="audit_events", db_index=False
    )
    api_key = models.ForeignKey("apikeys.ApiKey", on_delete=models.PROTECT, null=True, related_name="audit_events")
    subject = models.CharField(max_length=40, blank=True)
    action = models.CharField(max_length=50)  # "api_key.revoked"
    actor = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    via = models.CharField(max_length=7, choices=Via.choices)
    address = models.GenericIPAddressField(null=True)
    details = models.JSONField(default=dict)
    created_at = models.DateTimeField(default=timezone.now)

    objects = AuditEventManager()

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["workspace", "-id"], name="audit_event_newest_first"),
            models.Index(fields=["action", "-id"], name="audit_event_by_action"),
            models.Index(fields=["via", "-id"], name="audit_event_by_via"),
            models.Index(fields=["subject", "-id"], name="audit_event_by_subject"),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.api_key or self.subject}"

    @property
    def sentence(self) -> str:
        """What happened, for a history."""
        match self.action, self.details:
            case "api_key.created", {"description": description}:
                return f"Created as “{description}”"
            case "api_key.renamed", {"before": before, "after": after}:
                return f"Renamed from “{before}” to “{after}”"
            case "api_key.revoked", {"reason": reason}:
                return f"Revoked: “{reason}”" if reason else "Revoked"
            case (("workspace.suspended" | "workspace.resumed"), {"reason": reason}):
                return f"{self.action.partition('.')[2].capitalize()}: “{reason}”"
            case "membership.changed", {"before": before, "after": after}:
                return f"Role changed from {before} to {after}"
            case (("membership.created" | "membership.deleted"), {"role": role}):
                return f"{'Joined' if self.action.endswith('created') else 'Removed'} as {role}"
            case _, {"changes": changes}:
                return "; ".join(f"{field}: {before} → {after}" for field, (before, after) in changes.items())
        return self.action
