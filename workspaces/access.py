"""Who a request acts for, and which workspace it means."""

from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from django.db.models import QuerySet

from workspaces.ids import is_id
from workspaces.models import User, Workspace


class Scope(StrEnum):
    """What a principal may be allowed to do."""

    READ = "workspace:read"
    WRITE = "workspace:write"
    MANAGE_KEYS = "api-keys:manage"


class Scopes(NamedTuple):
    """What a view asks for: to read, and to write. None: whoever is there may."""

    read: Scope | None
    write: Scope | None


class MissingScope(Exception):
    def __init__(self, scope: Scope) -> None:
        super().__init__(f"This needs the scope {scope}, which the access token was not given.")
        self.scope = scope


class HasWorkspaces(Protocol):
    def reachable_workspaces(self) -> QuerySet[Workspace]:
        """The workspaces it may reach."""

    def current_workspace(self) -> Workspace:
        """What `current` means for it."""


class Principal(HasWorkspaces, Protocol):
    """What `request.auth` holds on an API request: an API key, which acts for its workspace, or a person."""

    @property
    def kind(self) -> str: ...

    @property
    def person(self) -> User | None:
        """The person behind the request; None for a key, which sees what the whole team sees."""

    @property
    def quota_subject(self) -> str:
        """Who shares the quota: the id that admissions are counted under."""

    def admit(self) -> Any:
        """Counts the request on that quota, if there is room for it: the `apikeys.quota.Decision`."""

    def allows(self, scope: Scope) -> bool: ...

    @property
    def log_fields(self) -> dict[str, str]:
        """What a log line says of it. Never a secret."""

    def describe(self) -> dict[str, Any]:
        """What `GET /me` says of it, besides the workspace and the quota."""


def resolve_workspace(principal: HasWorkspaces, workspace_id: str) -> Workspace:
    """The workspace that `{workspaceId}` means, for API and page alike: an id or `current`.

    Raises `Workspace.DoesNotExist` for one that is absent or not the principal's: they look the same.
    """
    if workspace_id == "current":
        return principal.current_workspace()
    if not is_id("w", workspace_id):
        raise Workspace.DoesNotExist
    return principal.reachable_workspaces().get(pk=workspace_id)
