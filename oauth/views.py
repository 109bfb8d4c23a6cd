"""The authorization server's addresses: two pages for people, the rest for programs."""

import json
from typing import Any, cast
from urllib.parse import urlsplit

import oauth2_provider.views as toolkit
from django.contrib.auth.mixins import LoginRequiredMixin
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.debug import sensitive_post_parameters
from oauth2_provider.exceptions import OAuthToolkitError
from oauth2_provider.scopes import get_scopes_backend
from oauth2_provider.views.mixins import OAuthLibMixin
from oauthlib.oauth2 import DeviceApplicationServer

from apikeys.throttling import client_failures
from core.client_ip import client_ip
from core.ratelimits import RateLimited, limit_form
from oauth.models import LIFETIME, Application, DeviceGrant, user_code_of
from workspaces.models import User


def reach(user: User, scopes: list[str]) -> dict[str, Any]:
    """What a consent page says: what the application can do, and in which workspaces."""
    sentences: dict[str, str] = get_scopes_backend().get_all_scopes()
    return {
        "abilities": [sentence for scope, sentence in sentences.items() if scope in scopes],
        "memberships": user.memberships.select_related("workspace").order_by("workspace__name"),
    }


class AuthorizationView(toolkit.AuthorizationView):  # type: ignore[misc]  # without types
    template_name = "oauth/authorize.html"

    def handle_no_permission(self) -> HttpResponseBase:
        """A request that can't succeed is answered before anyone has to sign in for it."""
        try:
            self.validate_authorization_request(self.request)
        except OAuthToolkitError as error:
            return cast(HttpResponse, self.error_response(error, None))
        return cast(HttpResponse, super().handle_no_permission())

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        # With this the toolkit skips the page on the client's word; a public one can't prove who it is (RFC 8252, 8.6).
        query = request.GET.copy()
        query.pop("approval_prompt", None)
        request.GET = query  # type: ignore[assignment]
        return cast(HttpResponse, super().get(request, *args, **kwargs))

    def form_invalid(self, form: Any) -> HttpResponse:
        raise BadRequest("The consent form was damaged on its way.")

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return cast(dict[str, Any], super().get_context_data(**kwargs)) | reach(self.request.user, kwargs["scopes"])

    def render_to_response(self, context: dict[str, Any], **kwargs: Any) -> HttpResponse:
        response = cast(HttpResponse, super().render_to_response(context, **kwargs))
        if "redirect_uri" in context:
            # Browsers hold a form's redirects to form-action too, and the answer to this one leads to the client.
            response._csp_update = {"form-action": [source_of(context["redirect_uri"])]}  # type: ignore[attr-defined]
        return response


def source_of(uri: str) -> str:
    """The origin of `uri` as a CSP source. CSP can't name an IPv6 address, so there it is the scheme."""
    parts = urlsplit(uri)
    return f"{parts.scheme}:" if "[" in parts.netloc else f"{parts.scheme}://{parts.netloc}"


class LimitsGuessesMixin:
    """Failed authentications of clients are limited per address. A client's secret takes Argon2 to check, so who has
    failed too often isn't heard with one: a right one neither, for the rest of that minute.
    """

    @method_decorator([csrf_exempt, sensitive_post_parameters()])
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        address = client_ip(request)
        try:
            if "client_secret" in request.POST or "Authorization" in request.headers:
                client_failures.require_room(address)
            response: HttpResponse = super().dispatch(request, *args, **kwargs)  # type: ignore[misc]  # the view's
            if response.status_code == 401:
                client_failures.count(address)
        except RateLimited as error:
            return too_many(error)
        return response


class TokenView(LimitsGuessesMixin, toolkit.TokenView):  # type: ignore[misc]  # without types
    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return cast(HttpResponse, self.authorization_flow_token_response(request))


class RevokeView(LimitsGuessesMixin, toolkit.RevokeTokenView):  # type: ignore[misc]  # without types
    pass


def too_many(error: RateLimited) -> HttpResponse:
    body = {"error": "temporarily_unavailable", "error_description": str(error)}
    return JsonResponse(body, status=429, headers={"Retry-After": str(error.wait)})


@method_decorator(csrf_exempt, name="dispatch")
class DeviceAuthorizationView(OAuthLibMixin, View):  # type: ignore[misc]  # without types
    """Where a terminal begins (RFC 8628, 3.1)."""

    server_class = DeviceApplicationServer
    http_method_names = ["post"]

    def post(self, request: HttpRequest) -> HttpResponse:
        try:
            limit_form(request, "device-authorization", "ip", "60/5m")
        except RateLimited as error:
            return too_many(error)
        headers, answer, status = self.create_device_authorization_response(request)
        if status != 200:
            return JsonResponse(json.loads(answer), status=status, headers=headers)
        application = Application.objects.filter(client_id=request.POST.get("client_id")).first()
        if application is None or application.authorization_grant_type != Application.GRANT_DEVICE_CODE:
            return JsonResponse({"error": "unauthorized_client"}, status=400)
        device_code, user_code = DeviceGrant.start(application.client_id, answer["scope"])
        return JsonResponse(
            {
                "device_code": device_code,
                "user_code": user_code,
                "verification_uri": request.build_absolute_uri(reverse("device")),
                "verification_uri_complete": request.build_absolute_uri(
                    reverse("device", query={"user_code": user_code})
                ),
                "expires_in": int(LIFETIME.total_seconds()),
                "interval": 5,
            }
        )


class DevicePage(LoginRequiredMixin, View):
    """Where a person types a terminal's code, and reads what it asks for."""

    def get(self, request: HttpRequest) -> HttpResponse:
        user_code = request.GET.get("user_code", "")
        if not user_code:
            return render(request, "oauth/device.html")
        limit_form(request, "device-code", str(request.user.pk), "20/5m")
        grant = DeviceGrant.typed(user_code)
        if grant is None:
            return render(request, "oauth/device.html", {"unknown": True}, status=404)
        context = {"user_code": user_code_of(user_code), "application": grant.application}
        return render(request, "oauth/approve_device.html", context | reach(_person(request), grant.scope.split()))


class DeviceDecisionView(LoginRequiredMixin, View):
    http_method_names = ["post"]

    def post(self, request: HttpRequest) -> HttpResponse:
        limit_form(request, "device-code", str(request.user.pk), "20/5m")
        grant = DeviceGrant.typed(request.POST.get("user_code", ""))
        approved = "allow" in request.POST
        if grant is None or not grant.decide(_person(request), approved=approved):
            return render(request, "oauth/device.html", {"unknown": True}, status=404)
        context = {"approved": approved, "application": grant.application}
        return render(request, "oauth/device_decided.html", context)


def _person(request: HttpRequest) -> User:
    return cast(User, request.user)


@csrf_exempt
def device(request: HttpRequest) -> HttpResponseBase:
    """One address for both: programs post to it, people open it."""
    view: Any = DeviceAuthorizationView if request.method == "POST" else DevicePage
    return cast(HttpResponseBase, view.as_view()(request))


class MetadataView(toolkit.OAuthServerMetadataView):  # type: ignore[misc]  # without types
    """RFC 8414, and RFC 8628's addition to it."""

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        response = super().get(request, *args, **kwargs)
        metadata = json.loads(response.content)
        metadata["device_authorization_endpoint"] = self._get_endpoint_url(request, "device-authorization")
        response.content = json.dumps(metadata)
        return cast(HttpResponse, response)
