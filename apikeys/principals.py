from typing import Any

from django.db.models import QuerySet

from apikeys.models import ApiKey
from workspaces.access import Principal, Scope
from workspaces.models import Tier, Workspace
from workspaces.quota import Decision


class ApiKeyPrincipal(Principal):
    """An API key, which acts for its workspace. It has no user, so it never sees private tasks."""

    kind = "apiKey"

    def __init__(self, api_key: ApiKey, decision: Decision | None = None) -> None:
        """`decision` is the quota's decision if the fast path has already made it (apikeys.admission)."""
        self.api_key = api_key
        self.decision = decision

    @property
    def quota_subject(self) -> str:
        return str(self.api_key.workspace_id)

    @property
    def tier(self) -> Tier:
        return self.api_key.workspace.tier

    def record_use(self, client_ip: str | None) -> None:
        self.api_key.record_use(client_ip)

    def has_scope(self, scope: Scope) -> bool:
        return scope != Scope.MANAGE_KEYS

    def reachable_workspaces(self) -> QuerySet[Workspace]:
        return Workspace.objects.filter(pk=self.api_key.workspace_id)

    def current_workspace(self) -> Workspace:
        return self.api_key.workspace

    @property
    def log_fields(self) -> dict[str, str]:
        return {"key": self.api_key.key_id, "workspace": self.api_key.workspace_id}

    def describe(self) -> dict[str, Any]:
        return {
            "apiKeyId": self.api_key.pk,
            "maskedKey": self.api_key.masked,
            "description": self.api_key.description,
        }
