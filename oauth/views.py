"""The authorization server's views: pages for consent and device codes, and endpoints for programs."""

import json
import re
import time
from typing import Any, cast
from urllib.parse import parse_qsl, urlencode, urlsplit

import oauth2_provider.views as toolkit
from csp.decorators import csp_update
from django.conf import settings
from django.contrib.auth.mixins import LoginRequiredMixin
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.debug import sensitive_post_parameters
from oauth2_provider.exceptions import FatalClientError, OAuthToolkitError
from oauth2_provider.models import AccessToken
from oauth2_provider.settings import oauth2_settings
from oauth2_provider.views.mixins import OAuthLibMixin
from oauthlib.oauth2 import DeviceApplicationServer, InvalidGrantError
from oauthlib.openid.connect.core.exceptions import ConsentRequired, LoginRequired

from core.client_ip import client_ip
from core.ratelimits import FailureLimit, limit_form, limit_form_by_ip
from core.sessions import SIGNED_IN_AT
from oauth.consent import consent_context, consented_at
from oauth.models import DEVICE_CODE_LIFETIME, Application, DeviceGrant, default_scopes, normalize_user_code
from oauth.server import MAX_AGE, NO_PROMPT, SIGN_IN_PROMPTS, DeviceAuthorizationValidator, basic_credentials
from workspaces.models import Actor, User, Via

client_failures = FailureLimit()  # of OAuth clients; bearer tokens have their own limit


class AuthorizationView(toolkit.AuthorizationView):  # type: ignore[misc]  # without types
    template_name = "oauth/authorize.html"

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if re.search("%(?![0-9A-Fa-f]{2})", request.META["QUERY_STRING"]):  # oauthlib would raise a ValueError
            raise BadRequest("The URL has an invalid percent-encoding.")
        return cast(HttpResponse, super().dispatch(request, *args, **kwargs))

    def handle_no_permission(self) -> HttpResponseBase:
        """Redirect to the sign-in page, or reject the request first if it is invalid or forbids pages."""
        try:
            _, credentials = self.validate_authorization_request(self.request)
            if NO_PROMPT in prompt_of(self.request):
                raise OAuthToolkitError(error=LoginRequired(request=credentials["request"]))
        except OAuthToolkitError as error:
            return self.error_response(error, None)
        options = {"again": "true"} if self.request.user.is_authenticated else {}
        return redirect_to_login(url_after_sign_in(self.request), reverse("sign-in", query=options))

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if must_sign_in_again(request):
            return self.handle_no_permission()
        # The toolkit's own rule for skipping consent, approval_prompt=auto, applies to every client (RFC 8252, 8.6).
        # Ours is in `oauth.consent`.
        query = request.GET.copy()
        query.pop("approval_prompt", None)
        request.GET = query  # type: ignore[assignment]  # mutable
        return cast(HttpResponse, super().get(request, *args, **kwargs))

    def error_response(self, error: OAuthToolkitError, application: Application | None, **kwargs: Any) -> HttpResponse:
        """Redirect to the client with the error, in the part of the URL in which it expects the response."""
        if isinstance(error, FatalClientError):  # such as an unregistered redirect URI
            return cast(HttpResponse, super().error_response(error, application, **kwargs))
        problem = error.oauthlib_error
        problem.response_mode = problem.response_mode or self.request.GET.get("response_mode")
        application = application or Application.objects.get(client_id=problem.client_id)
        return self.redirect(problem.in_uri(problem.redirect_uri), application)

    def redirect(self, redirect_to: str, application: Application | None) -> HttpResponse:
        """Redirect to the client with `iss`, which the toolkit leaves out of errors (RFC 9207)."""
        parts = urlsplit(redirect_to)
        part = "fragment" if parts.fragment else "query"
        parameters = [item for item in parse_qsl(getattr(parts, part), keep_blank_values=True) if item[0] != "iss"]
        parameters.append(("iss", oauth2_settings.oauth2_authorization_server_issuer(self.request)))
        redirect_to = parts._replace(**{part: urlencode(parameters)}).geturl()
        return cast(HttpResponse, super().redirect(redirect_to, application))

    def form_invalid(self, form: Any) -> HttpResponse:
        raise BadRequest("The consent form is invalid.")

    def may_skip_consent(self, context: dict[str, Any]) -> bool:
        wants_page = "consent" in prompt_of(self.request)  # OpenID Connect Core, 3.1.2.1
        authorization = self.request.user, context["application"], context["scopes"], context["redirect_uri"]
        return not wants_page and consented_at(*authorization) is not None

    def skip_consent(self, application: Application) -> HttpResponse:
        """Redirect to the client, as if the user had allowed the request again."""
        form = self.form_class(self.get_initial() | {"allow": True})
        response = cast(HttpResponse, self.form_valid(form) if form.is_valid() else self.form_invalid(form))
        if response.status_code != 302 or self.request.headers.get("Sec-Fetch-Site") != "same-origin":
            return response
        # The user has just signed in. Chromium applies the form-action of the sign-in page to the redirects that
        # follow it, so it would block this one. A page that is reloaded at once ends the chain of redirects.
        page = render(self.request, "oauth/allowed_before.html", {"application": application})
        page["Refresh"], page["Cache-Control"] = f"0;url={response['Location']}", "no-store"
        return page

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context = cast(dict[str, Any], super().get_context_data(**kwargs))
        return context | consent_context(self.request.user, kwargs["scopes"])

    def render_to_response(self, context: dict[str, Any], **kwargs: Any) -> HttpResponse:
        render_to_response: Any = super().render_to_response
        if "redirect_uri" in context:
            if self.may_skip_consent(context):
                return self.skip_consent(context["application"])
            if NO_PROMPT in prompt_of(self.request):
                error = OAuthToolkitError(ConsentRequired(state=context["state"]), context["redirect_uri"])
                return self.error_response(error, context["application"])
            # Browsers apply form-action to redirects too, and this form redirects to the client.
            add_source = csp_update({"form-action": [csp_source(context["redirect_uri"])]})
            render_to_response = add_source(render_to_response)
        return cast(HttpResponse, render_to_response(context, **kwargs))


def prompt_of(request: HttpRequest) -> set[str]:
    return set(request.GET.get("prompt", "").split())


def must_sign_in_again(request: HttpRequest) -> bool:
    """Return whether the client wants a new sign-in of a user who is signed in (OpenID Connect Core, 3.1.2.1)."""
    max_age = request.GET.get("max_age", "")
    age = time.time() - request.session.get(SIGNED_IN_AT, 0)
    is_too_old = MAX_AGE.fullmatch(max_age) is not None and age > int(max_age)
    return is_too_old or bool(SIGN_IN_PROMPTS & prompt_of(request))


def url_after_sign_in(request: HttpRequest) -> str:
    """Return the URL of this authorization request without the parameters that a new sign-in fulfils."""
    query = request.GET.copy()
    for name in ("prompt", "max_age"):
        query.pop(name, None)
    if prompt := prompt_of(request) - SIGN_IN_PROMPTS:
        query["prompt"] = " ".join(prompt)
    return f"{request.path}?{query.urlencode()}"


def csp_source(uri: str) -> str:
    """Return the origin of `uri` as a CSP source, or its scheme if CSP can't express the host: IPv6, or none."""
    parts = urlsplit(uri)
    has_host = parts.scheme in ("http", "https") and "[" not in parts.netloc
    return f"{parts.scheme}://{parts.netloc}" if has_host else f"{parts.scheme}:"


class EndpointMixin:
    """The rules of all endpoints for programs: formats of requests and errors, a limit on failed authentications.

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


def find_grant(request: HttpRequest, user_code: str) -> DeviceGrant | None:
    """Return the pending grant with this code, or None. Raise `RateLimited` after too many codes from one user."""
    limit_form(request, "device-code", str(request.user.pk), "20/5m")
    return DeviceGrant.find_pending(user_code)


class DevicePageView(LoginRequiredMixin, View):
    """The page to enter a terminal's code, then the consent page."""

    def get(self, request: HttpRequest) -> HttpResponse:
        user_code = request.GET.get("user_code", "")
        if not user_code:
            return render(request, "oauth/device.html")
        grant = find_grant(request, user_code)
        if grant is None:
            return render(request, "oauth/device.html", {"code_not_found": True}, status=404)
        context = consent_context(_user(request), grant.scope.split())
        context |= {"user_code": normalize_user_code(user_code), "grant": grant, "application": grant.application}
        context["client_ip"] = client_ip(request)
        return render(request, "oauth/approve_device.html", context)


class DeviceDecisionView(LoginRequiredMixin, View):
    """Receives the form of `DevicePageView`."""

    def get(self, request: HttpRequest) -> HttpResponse:
        return redirect("device")

    def post(self, request: HttpRequest) -> HttpResponse:
        grant = find_grant(request, request.POST.get("user_code", ""))
        approved = "allow" in request.POST
        actor = Actor.of(request, Via.PAGE)
        if grant is None or not grant.decide(_user(request), approved=approved, by=actor):
            return render(request, "oauth/device.html", {"code_not_found": True}, status=404)
        context = {"approved": approved, "application": grant.application}
        return render(request, "oauth/device_decided.html", context)


def _user(request: HttpRequest) -> User:
    return cast(User, request.user)


@csrf_exempt
def device(request: HttpRequest) -> HttpResponseBase:
    """Serve programs (POST) and users (GET) at the same URL."""
    view: Any = DeviceAuthorizationView if request.method == "POST" else DevicePageView
    return cast(HttpResponseBase, view.as_view()(request))


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

    `path` is that of the resource. The metadata's URL and its `resource` must match (RFC 9728, section 3.3).
    """

    path = ""

    def get_resource(self, request: HttpRequest) -> str:
        return f"{settings.BASE_URL}{self.path}"

    def get_scopes_supported(self) -> list[str]:
        """Return the scopes that a new application may request: some clients request all that they find here.

        A 403 for another scope names it.
        """
        return default_scopes()
