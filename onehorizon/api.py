"""What every view under /api/ has in common: the order of the checks."""

from typing import Any, cast

from rest_framework import exceptions
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.views import APIView
from rest_framework.viewsets import ViewSetMixin

from workspaces.access import Principal, Scopes


class ApiView(APIView):
    """For whom `PrincipalMiddleware` let in, and counted, or for nobody: authentication, then the rest."""

    scopes: Scopes  # every view declares its own
    http_method_names = [method for method in APIView.http_method_names if method != "options"]  # which nothing needs

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        self.format_kwarg = self.get_format_suffix(**kwargs)
        self.perform_authentication(request)
        request.accepted_renderer, request.accepted_media_type = self.perform_content_negotiation(request)
        self.check_permissions(request)

    @property
    def principal(self) -> Principal:
        """Who the request acts for; there is one wherever `PrincipalRequired` let it in."""
        return cast(Principal, self.request.auth)

    @property
    def body(self) -> Any:
        """What was sent; None where nothing was, which DRF would take for an empty object."""
        return self.request.data if self.request.stream is not None else None


class ApiViewSet(ViewSetMixin, ApiView):
    pass


class UnknownPathView(ApiView):
    """Every path under /api/ that nothing answers. A key that asks here is counted like anywhere else."""

    permission_classes = [AllowAny]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        raise exceptions.NotFound("There is nothing at this address.")
