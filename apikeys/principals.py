from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from django.utils.http import http_date

from apikeys.models import ApiKey, StoredSecret
from apikeys.usage import recorder
from workspaces.access import Principal, Scope
from workspaces.models import Tier, Workspace
from workspaces.quota import Decision

ROTATION_GUIDE_PATH = "/docs/api-keys/#rotating-a-key"


class ApiKeyPrincipal(Principal):
    """An API key, which acts for its workspace. It has no user, so it never sees private tasks."""

    kind = "apiKey"

    def __init__(self, stored_secret: StoredSecret, decision: Decision | None = None) -> None:
        """`decision` is the quota's decision if the fast path has already made it (apikeys.admission)."""
        self.stored_secret = stored_secret
        self.decision = decision

    @property
    def quota_subject(self) -> str:
        return str(self.stored_secret.workspace_id)

    @property
    def tier(self) -> Tier:
        return self.stored_secret.workspace.tier

    def record_use(self, client_ip: str | None) -> None:
        self.stored_secret.record_use(client_ip)

    def count_response(self, status: int) -> None:
        if self.decision is not None:  # None: the quota could not be checked
            recorder.count(self.stored_secret.api_key_id, admitted=self.decision.admitted, status=status)

    def has_scope(self, scope: Scope) -> bool:
        return scope != Scope.MANAGE_KEYS

    def reachable_workspaces(self) -> QuerySet[Workspace]:
        return Workspace.objects.filter(pk=self.stored_secret.workspace_id)

    def current_workspace(self) -> Workspace:
        return self.stored_secret.workspace

    @property
    def log_fields(self) -> dict[str, str]:
        return {"key": self.stored_secret.key_id, "workspace": self.stored_secret.workspace_id}

    def headers(self) -> dict[str, str]:
        """Return the headers of every principal and, for a replaced secret, `Deprecation`, `Sunset` and `Link`.

        They say when it was replaced (RFC 9745), when it ends (RFC 8594), and where to read what to do.
        """
        headers = super().headers()
        replaced_at, ends_at = self.stored_secret.replaced_at, self.stored_secret.ends_at
        if replaced_at is not None and ends_at is not None:
            headers["Deprecation"] = f"@{int(replaced_at.timestamp())}"
            headers["Sunset"] = http_date(ends_at.timestamp())
            headers["Link"] = f'<{settings.BASE_URL}{ROTATION_GUIDE_PATH}>; rel="deprecation"; type="text/html"'
        return headers

    def describe(self) -> dict[str, Any]:
        api_key_id = self.stored_secret.api_key_id
        keys_of_workspace = ApiKey.objects.filter(workspace=self.stored_secret.workspace_id)
        return {
            "apiKeyId": api_key_id,
            "maskedKey": self.stored_secret.masked,
            "description": keys_of_workspace.values_list("description", flat=True).get(pk=api_key_id),
        }
