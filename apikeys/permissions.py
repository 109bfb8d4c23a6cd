from rest_framework.permissions import BasePermission
from rest_framework.request import Request


class PrincipalRequired(BasePermission):
    """Whoever asks must have authenticated. What they can reach is the querysets' matter (workspaces.access)."""

    def has_permission(self, request: Request, view: object) -> bool:
        return request.auth is not None
