from typing import Any, cast

from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from workspaces.access import MissingScope, Principal, Scopes
from workspaces.models import Workspace


class PrincipalRequired(BasePermission):
    """Whoever asks must have authenticated. What they can reach is the querysets' matter (workspaces.access)."""

    def has_permission(self, request: Request, view: object) -> bool:
        return request.auth is not None


class ScopeRequired(BasePermission):
    """The principal must hold the scope that the view names for reading or for writing. Raises `MissingScope`."""

    def has_permission(self, request: Request, view: Any) -> bool:
        scopes: Scopes = view.scopes
        scope = scopes.read if request.method in SAFE_METHODS else scopes.write
        if scope is not None and not cast(Principal, request.auth).allows(scope):
            raise MissingScope(scope)
        return True


class PersonRequired(BasePermission):
    """For managing keys. A key is told so whatever it names: it learns nothing of what there is."""

    message = "API keys can't manage API keys: this needs an OAuth token of an owner or admin."

    def has_permission(self, request: Request, view: object) -> bool:
        return cast(Principal, request.auth).person is not None


class KeyManagerRequired(BasePermission):
    """Their role in the view's workspace is read on every request."""

    message = "API keys are managed by owners and admins of the workspace."

    def has_permission(self, request: Request, view: Any) -> bool:
        workspace: Workspace = view.workspace
        return workspace.memberships.get(user=request.user.pk).can_manage_keys
