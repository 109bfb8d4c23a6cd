"""Principals, their scopes, and the workspaces they can access."""

from abc import ABC, abstractmethod
from enum import StrEnum
from typing import Any, ClassVar, NamedTuple, Protocol

from django.db.models import QuerySet

from workspaces import quota
from workspaces.ids import get_by_id
from workspaces.models import Tier, User, Workspace


class Scope(StrEnum):
    READ = "workspace:read"
    WRITE = "workspace:write"
    MANAGE_KEYS = "api-keys:manage"


class Scopes(NamedTuple):
    """The scopes that a view requires for reading and for writing. None: any principal."""

    read: Scope | None
    write: Scope | None


DEFAULT_SCOPES = Scopes(read=Scope.READ, write=Scope.WRITE)


class HasWorkspaces(Protocol):
    """A principal or a user."""

    def reachable_workspaces(self) -> QuerySet[Workspace]:
        """Return the workspaces that this principal or user may access."""

    def current_workspace(self) -> Workspace:
        """Return the workspace for the id `current`. Raise `NoWorkspaceChosen`."""


class CredentialRejected(Exception):
    """A credential identifies no principal.

    `reason` and `log_fields`, the ids that the credential names, are for the log and the metrics: a client must not
    learn them.
    """

    def __init__(self, reason: str, **log_fields: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.log_fields = log_fields


class Principal(ABC):
    """The identity behind a request: an API key, which acts for its workspace, or a person.

    `request.auth` on API requests. A principal belongs to one request.
    """

    kind: ClassVar[str]  # as in the response of whoAmI
    user: User | None = None
    decision: quota.Decision | None = None  # the quota's decision on this request

    @property
    @abstractmethod
    def quota_subject(self) -> str:
        """The id of the quota's row. Principals with the same id share a quota."""

    @property
    @abstractmethod
    def tier(self) -> Tier:
        """The tier with the quota's limits."""

    def count_request(self) -> quota.Decision:
        """Count the request against the quota at the first call, and return that decision at every call."""
        if self.decision is None:
            self.decision = quota.admit(self.quota_subject, self.tier)
        return self.decision

    def record_use(self, client_ip: str | None) -> None:  # noqa: B027, only API keys store their last use
        """Store when and from which client IP the credential was used. Never fails the request."""

    def count_response(self, status: int) -> None:  # noqa: B027, only the usage of API keys is counted
        """Count the request as answered with this HTTP status. Needs no I/O."""

    def headers(self) -> dict[str, str]:
        """Return the headers that every response to the principal has."""
        return self.decision.status.headers() if self.decision is not None else {}

    @abstractmethod
    def has_scope(self, scope: Scope) -> bool: ...

    @abstractmethod
    def reachable_workspaces(self) -> QuerySet[Workspace]: ...

    @abstractmethod
    def current_workspace(self) -> Workspace: ...

    @property
    @abstractmethod
    def log_fields(self) -> dict[str, str]:
        """The ids that identify the principal in a log line. Never a secret."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return the JSON for whoAmI, without the kind, the workspace and the quota."""


def resolve_workspace(principal: HasWorkspaces, workspace_id: str) -> Workspace:
    """Return the workspace for the `{workspaceId}` of a page or the API: an id or `current`.

    Raise `Workspace.DoesNotExist` for an absent workspace and for one that the principal can't reach, and
    `NoWorkspaceChosen` for `current`.
    """
    if workspace_id == "current":
        return principal.current_workspace()
    return get_by_id(principal.reachable_workspaces(), workspace_id)
