"""The base view of the REST API. It defines the order of the checks."""

from collections.abc import Mapping
from typing import Any, ClassVar, cast

from django.urls import resolve, reverse
from django.utils.functional import cached_property
from rest_framework import exceptions, status
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework.viewsets import ViewSetMixin

from workspaces.access import DEFAULT_SCOPES, Principal, Scopes
from workspaces.serializers import QuerySerializer, validated_query


class ApiView(APIView):
    """Checks authentication and the quota first, so that every authenticated request counts against the quota.

    `APIView` checks throttles last: a request answered 403 or 406 would not count. Query parameters that an action does
    not declare in `query_serializers` are rejected.
    """

    scopes: Scopes = DEFAULT_SCOPES  # required by `ScopeRequired`
    query_serializers: ClassVar[Mapping[str, type[QuerySerializer]]] = {}  # by the action of a viewset
    http_method_names = [method for method in APIView.http_method_names if method != "options"]  # no OPTIONS metadata

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        self.format_kwarg = self.get_format_suffix(**kwargs)
        self.perform_authentication(request)
        self.check_throttles(request)
        request.accepted_renderer, request.accepted_media_type = self.perform_content_negotiation(request)
        self.check_permissions(request)
        if not request.method.isupper():  # type: ignore[union-attr]  # `dispatch` would call the handler for `get` too
            self.http_method_not_allowed(request)
        if request.META["QUERY_STRING"] and request.method in self.allowed_methods:
            _ = self.query  # raises for an invalid query string, whether or not the view reads it

    @cached_property
    def query(self) -> Mapping[str, Any]:
        """The validated query string. Raise `ValidationError`."""
        serializer = self.query_serializers.get(getattr(self, "action", ""), QuerySerializer)
        return validated_query(serializer, self.request.META["QUERY_STRING"])

    @property
    def principal(self) -> Principal:
        """The principal of the request. It may be None in views without `PrincipalRequired`."""
        return cast(Principal, self.request.auth)

    @property
    def body(self) -> Any:
        """The parsed body, or None for a request without a body, where `request.data` is an empty object."""
        return self.request.data if self.request.stream is not None else None


class ApiViewSet(ViewSetMixin, ApiView):
    pass


def created_response(body: Mapping[str, Any], url_name: str, *ids: str) -> Response:
    """Return a 201. Its Location is the path of the new object (RFC 9110, 15.3.2), whose URL has this name and ids."""
    return Response(body, status=status.HTTP_201_CREATED, headers={"Location": reverse(url_name, args=ids)})


class UnknownPathView(ApiView):
    """Answers unknown paths under /api/ with 404. Authenticated requests count against the quota here too."""

    permission_classes = [AllowAny]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        view = resolve(request.path_info.rstrip("/")).func
        if getattr(view, "cls", None) is not UnknownPathView:
            raise exceptions.NotFound("This path does not exist. Remove the trailing slash.")
        guide = request.build_absolute_uri(reverse("document", args=["api"]))
        raise exceptions.NotFound(f"This path does not exist. See {guide}.")
