"""What every view under /api/ has in common: the order of the checks, and the fields of the quota."""

from typing import Any, cast

from rest_framework import exceptions
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework.viewsets import ViewSetMixin

from workspaces.access import Principal, Scopes


class ApiView(APIView):
    """Authentication, then quota, then the rest: whatever a valid key asks for counts, refusals too."""

    scopes: Scopes  # every view declares its own

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        self.format_kwarg = self.get_format_suffix(**kwargs)
        self.perform_authentication(request)
        self.check_throttles(request)
        request.accepted_renderer, request.accepted_media_type = self.perform_content_negotiation(request)
        self.check_permissions(request)

    @property
    def principal(self) -> Principal:
        """Who the request acts for; there is one wherever `PrincipalRequired` let it in."""
        return cast(Principal, self.request.auth)

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        decision = getattr(request, "quota", None)
        if decision is not None:
            for name, value in decision.headers().items():
                response[name] = value
        return super().finalize_response(request, response, *args, **kwargs)


class ApiViewSet(ViewSetMixin, ApiView):
    pass


class UnknownPathView(ApiView):
    """Every path under /api/ that nothing answers. A key that asks here is counted like anywhere else."""

    permission_classes = [AllowAny]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        raise exceptions.NotFound("There is nothing at this address.")
