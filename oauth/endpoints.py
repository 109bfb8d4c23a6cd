"""The authorization server's endpoints for programs, which return JSON. The pages are in `oauth.views`."""

import json
from typing import Any, cast

import oauth2_provider.views as toolkit
from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.debug import sensitive_post_parameters
from oauth2_provider.models import AccessToken
from oauth2_provider.views.mixins import OAuthLibMixin
from oauthlib.oauth2 import DeviceApplicationServer, InvalidGrantError

from core.client_ip import client_ip
from core.ratelimits import FailureLimit, limit_form_by_ip
from oauth.models import DEVICE_CODE_LIFETIME, Application, DeviceGrant, default_scopes
from oauth.requests import basic_credentials
from oauth.server import DeviceAuthorizationValidator

client_failures = FailureLimit("client")  # bearer tokens have their own limit


class EndpointMixin:
    """The rules of all endpoints for programs: the format of requests and errors, the limit on failed authentications.

    Checking a client secret costs an Argon2 hash. After too many failures, every request with a client secret from that
    IP is rejected for the rest of the minute, even with a correct secret.
    """

    http_method_names = ("post",)

    @method_decorator([csrf_exempt, sensitive_post_parameters()])
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if request.method == "POST" and (problem := format_problem(request)):
            return JsonResponse({"error": "invalid_request", "error_description": problem}, status=400)
        ip = client_ip(request)
        if "client_secret" in request.POST or "Authorization" in request.headers:
            client_failures.check(ip)
        response: HttpResponse = super().dispatch(request, *args, **kwargs)  # type: ignore[misc]  # the view's
        if response.status_code == 401:
            client_failures.count(ip)
            response["WWW-Authenticate"] = 'Basic realm="onehorizon"'  # RFC 6749, 5.2; the toolkit's is Bearer
        response["Content-Type"] = "application/json"  # which the toolkit omits for some errors
        return response

    def http_method_not_allowed(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        body = {"error": "invalid_request", "error_description": "Use POST."}
        return JsonResponse(body, status=405, headers={"Allow": "POST"})


def format_problem(request: HttpRequest) -> str | None:
    """Return what is wrong with the format of a request to an endpoint, or None."""
    if request.META["QUERY_STRING"]:  # a URL is logged, so it must not contain a secret
        return "Send the parameters in the body, not in the URL."
    if request.content_type != "application/x-www-form-urlencoded":  # JSON or multipart/form-data
        return "Send the parameters as application/x-www-form-urlencoded, and name it in the Content-Type header."
    if any("\0" in value for _, values in request.POST.lists() for value in values):
        return "A parameter contains a NUL character."
    return None


class TokenView(EndpointMixin, toolkit.TokenView):  # type: ignore[misc]  # without types
    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return cast(HttpResponse, self.authorization_flow_token_response(request))
        except AccessToken.DoesNotExist:  # revoked since it was saved, such as by a replay
            return HttpResponse(InvalidGrantError().json, status=400)


class RevokeView(EndpointMixin, toolkit.RevokeTokenView):  # type: ignore[misc]  # without types
    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        response: HttpResponse = super().post(request, *args, **kwargs)
        return JsonResponse({}) if response.status_code == 200 else response  # an empty body would not be JSON


class DeviceAuthorizationView(EndpointMixin, OAuthLibMixin, View):  # type: ignore[misc]  # without types
    """Device authorization endpoint: starts the device flow (RFC 8628, 3.1)."""

    server_class = DeviceApplicationServer
    validator_class = DeviceAuthorizationValidator

    def post(self, request: HttpRequest) -> HttpResponse:
        limit_form_by_ip(request, "device-authorization", "60/5m")
        if "client_id" not in request.POST:  # oauthlib doesn't look for it in the Authorization header
            form = request.POST.copy()
            form["client_id"], _ = basic_credentials(request.headers.get("Authorization", "")) or ("", "")
            request.POST = form  # type: ignore[assignment]  # mutable
        headers, body, status = self.create_device_authorization_response(request)
        if status != 200:
            return JsonResponse(json.loads(body), status=status, headers=headers)
        application = Application.objects.filter(client_id=request.POST.get("client_id")).first()
        if application is None or application.authorization_grant_type != Application.GRANT_DEVICE_CODE:
            return JsonResponse({"error": "unauthorized_client"}, status=400)
        return device_response(DeviceGrant.start(application.client_id, body["scope"], client_ip(request)))


def device_response(grant: DeviceGrant) -> HttpResponse:
    """Return the response to a terminal that starts the device flow (RFC 8628, 3.2)."""
    complete_url = reverse("device", query={"user_code": grant.user_code})
    return JsonResponse(
        {
            "device_code": grant.device_code,
            "user_code": grant.user_code,
            "verification_uri": f"{settings.BASE_URL}{reverse('device')}",
            "verification_uri_complete": f"{settings.BASE_URL}{complete_url}",
            "expires_in": int(DEVICE_CODE_LIFETIME.total_seconds()),
            "interval": grant.interval,
        }
    )


class MetadataView(toolkit.OAuthServerMetadataView):  # type: ignore[misc]  # without types
    """Authorization server metadata (RFC 8414) with the device endpoint (RFC 8628)."""

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        response = super().get(request, *args, **kwargs)
        metadata = json.loads(response.content)
        metadata["device_authorization_endpoint"] = self._get_endpoint_url(request, "device-authorization")
        metadata["service_documentation"] = f"{settings.BASE_URL}{reverse('document', args=['oauth'])}"
        response.content = json.dumps(metadata)
        return cast(HttpResponse, response)


class ResourceMetadataView(toolkit.OAuthProtectedResourceMetadataView):  # type: ignore[misc]  # without types
    """Metadata of the API as a protected resource, which names the authorization server (RFC 9728).

    `path` is the path of the resource. The metadata's URL and its `resource` must match (RFC 9728, section 3.3).
    """

    path = ""

    def get_resource(self, request: HttpRequest) -> str:
        return f"{settings.BASE_URL}{self.path}"

    def get_scopes_supported(self) -> list[str]:
        """Return the scopes of a new application, because some clients request all scopes of the metadata.

        A 403 for another scope names that scope.
        """
        return default_scopes()
