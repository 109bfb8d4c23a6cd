"""The authorization server's pages for consent and device codes. `oauth.endpoints` has the endpoints for programs."""

import re
from typing import Any, cast
from urllib.parse import parse_qsl, urlencode, urlsplit

import oauth2_provider.views as toolkit
from csp.decorators import csp_replace
from django.contrib.auth.mixins import LoginRequiredMixin
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from oauth2_provider.exceptions import FatalClientError, OAuthToolkitError
from oauth2_provider.settings import oauth2_settings
from oauthlib.openid.connect.core.exceptions import ConsentRequired, LoginRequired

from core.client_ip import client_ip
from core.ratelimits import limit_form
from oauth.consent import consent_context, consented_at
from oauth.endpoints import DeviceAuthorizationView
from oauth.models import Application, DeviceGrant, normalize_user_code
from oauth.prompts import NO_PROMPT, must_sign_in_again, prompts_of, url_after_sign_in
from workspaces.models import Actor, User, Via


class AuthorizationView(toolkit.AuthorizationView):  # type: ignore[misc]  # without types
    template_name = "oauth/authorize.html"

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if re.search("%(?![0-9A-Fa-f]{2})", request.META["QUERY_STRING"]):  # oauthlib would raise a ValueError
            raise BadRequest("The URL has an invalid percent-encoding.")
        return cast(HttpResponse, super().dispatch(request, *args, **kwargs))

    def handle_no_permission(self) -> HttpResponseBase:
        """Redirect to the sign-in page. First reject a request that is invalid or has `prompt=none`."""
        try:
            _, credentials = self.validate_authorization_request(self.request)
            if NO_PROMPT in prompts_of(self.request):
                raise OAuthToolkitError(error=LoginRequired(request=credentials["request"]))
        except OAuthToolkitError as error:
            return self.error_response(error, None)
        options = {"reauthenticate": "true"} if self.request.user.is_authenticated else {}
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
        """Redirect to the client with the error in the query or in the fragment, where it expects the response."""
        if isinstance(error, FatalClientError):  # such as an unregistered redirect URI
            return cast(HttpResponse, super().error_response(error, application, **kwargs))
        oauthlib_error = error.oauthlib_error
        oauthlib_error.response_mode = oauthlib_error.response_mode or self.request.GET.get("response_mode")
        application = application or Application.objects.get(client_id=oauthlib_error.client_id)
        if not application.redirect_uri_allowed(oauthlib_error.redirect_uri):  # a forged field of the consent form
            raise BadRequest("The redirect URI is not registered.")
        return self.redirect(oauthlib_error.in_uri(oauthlib_error.redirect_uri), application)

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
        wants_page = "consent" in prompts_of(self.request)  # OpenID Connect Core, 3.1.2.1
        authorization = self.request.user, context["application"], context["scopes"], context["redirect_uri"]
        return not wants_page and consented_at(*authorization) is not None

    def skip_consent(self, application: Application) -> HttpResponse:
        """Redirect to the client, as if the user had allowed the request again."""
        form = self.form_class(self.get_initial() | {"allow": True})
        response = cast(HttpResponse, self.form_valid(form) if form.is_valid() else self.form_invalid(form))
        if response.status_code != 302 or self.request.headers.get("Sec-Fetch-Site") != "same-origin":
            return response
        # The user may have just signed in. Chromium applies the form-action of the sign-in page to all redirects after
        # its form, so it would block this one. A page with a `Refresh` header ends the chain of redirects.
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
            if NO_PROMPT in prompts_of(self.request):
                error = OAuthToolkitError(ConsentRequired(state=context["state"]), context["redirect_uri"])
                return self.error_response(error, context["application"])
            # Browsers apply form-action to all redirects after a form. This form leads to the client, which often
            # redirects to another of its hosts.
            render_to_response = csp_replace({"form-action": None})(render_to_response)
        return cast(HttpResponse, render_to_response(context, **kwargs))


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
