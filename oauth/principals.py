from typing import Any

from django.db.models import QuerySet

from oauth.models import LOGGED_CLIENT_ID
from workspaces.access import Principal, Scope
from workspaces.models import Membership, NoWorkspaceChosen, Tier, User, Workspace


class UserPrincipal(Principal):
    """A person who uses an OAuth client. Has the scopes of the access token."""

    kind = "user"

    def __init__(self, user: User, scopes: frozenset[str], client_id: str) -> None:
        self.user: User = user
        self.scopes = scopes
        self.client_id = client_id

    @property
    def quota_subject(self) -> str:
        return str(self.user.pk)

    @property
    def tier(self) -> Tier:
        return Tier.objects.of_people()

    def has_scope(self, scope: Scope) -> bool:
        return scope in self.scopes

    def reachable_workspaces(self) -> QuerySet[Workspace]:
        return self.user.reachable_workspaces()

    def current_workspace(self) -> Workspace:
        return self.user.current_workspace()

    @property
    def log_fields(self) -> dict[str, str]:
        return {"user": self.user.pk, "client": self.client_id[:LOGGED_CLIENT_ID]}

    def describe(self) -> dict[str, Any]:
        description: dict[str, Any] = {"userId": self.user.pk}
        if "profile" in self.scopes:
            description["name"] = self.user.name
        if "email" in self.scopes:
            description["email"] = self.user.email
        return description | {"role": self._role(), "scopes": sorted(self.scopes)}

    def _role(self) -> str | None:
        """Return the role in the current workspace, or None if no workspace was chosen."""
        try:
            workspace = self.current_workspace()
        except NoWorkspaceChosen:
            return None
        return Membership.objects.get(workspace=workspace, user=self.user).role
