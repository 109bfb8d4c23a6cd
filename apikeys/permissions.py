from typing import Any, cast

from rest_framework.exceptions import PermissionDenied
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from workspaces.access import DEFAULT_SCOPES, Principal, Scope, Scopes
from workspaces.models import KeyManagersOnly, User, Workspace


class MissingScope(PermissionDenied):
    """The access token lacks `scope`."""

    def __init__(self, scope: Scope) -> None:
        super().__init__(f"This requires an access token with the scope {scope}.")
        self.scope = scope


class PrincipalRequired(BasePermission):
    """Require authentication. Querysets decide which objects the principal can reach (workspaces.access)."""

    def has_permission(self, request: Request, view: object) -> bool:
        return isinstance(request.auth, Principal)


class ScopeRequired(BasePermission):
    """Require the scope in the view's `scopes` for reading or for writing. Raise `MissingScope`."""

    def has_permission(self, request: Request, view: object) -> bool:
        scopes: Scopes = getattr(view, "scopes", DEFAULT_SCOPES)
        scope = scopes.read if request.method in SAFE_METHODS else scopes.write
        if scope is not None and not cast(Principal, request.auth).has_scope(scope):
            raise MissingScope(scope)
        return True


class PersonRequired(BasePermission):
    """Require a person. API keys always get 403, even for unknown ids, so they can't probe for existing keys."""

    message = "API keys can't manage API keys: this needs an OAuth token of an owner or admin."

    def has_permission(self, request: Request, view: object) -> bool:
        return cast(Principal, request.auth).user is not None


class KeyManagerRequired(BasePermission):
    """Require a role in the view's workspace that can manage keys. The role is read on every request.

    It is read again in the transaction of a change (`Workspace.require_key_manager`).
    """

    message = str(KeyManagersOnly())

    def has_permission(self, request: Request, view: Any) -> bool:
        workspace: Workspace = view.workspace
        return workspace.can_manage_keys(cast(User, request.user))


def may_manage_keys(principal: Principal, workspace: Workspace) -> bool:
    """Return whether the principal meets the requirements of the operations on this workspace's keys."""
    user = principal.user
    return user is not None and principal.has_scope(Scope.MANAGE_KEYS) and workspace.can_manage_keys(user)
