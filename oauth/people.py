from dataclasses import dataclass
from typing import Any

from django.db import models

from apikeys import quota
from apikeys.quota import Decision
from workspaces.access import Scope
from workspaces.models import Membership, NoneChosen, Tier, User, Workspace

TIER = "standard"


@dataclass(frozen=True)
class Person:
    """A person behind an access token, as the principal of a request (workspaces.access.Principal)."""

    person: User
    scopes: frozenset[str]
    client_id: str

    kind = "user"  # what GET /me calls this principal

    @property
    def quota_subject(self) -> str:
        return str(self.person.pk)

    def admit(self) -> Decision:
        return quota.admit(self.quota_subject, Tier.objects.get(pk=TIER))

    @property
    def log_fields(self) -> dict[str, str]:
        return {"user": self.person.pk, "client": self.client_id}

    def allows(self, scope: Scope) -> bool:
        return scope in self.scopes

    def reachable_workspaces(self) -> models.QuerySet[Workspace]:
        return self.person.reachable_workspaces()

    def current_workspace(self) -> Workspace:
        return self.person.current_workspace()

    def describe(self) -> dict[str, Any]:
        described: dict[str, Any] = {"userId": self.person.pk}
        if "profile" in self.scopes:
            described["name"] = self.person.name
        if "email" in self.scopes:
            described["email"] = self.person.email
        return described | {"role": self._role(), "scopes": sorted(self.scopes)}

    def _role(self) -> str | None:
        """In the workspace that `current` means; None where it means none."""
        try:
            workspace = self.current_workspace()
        except NoneChosen:
            return None
        return Membership.objects.get(workspace=workspace, user=self.person).role
