from typing import Any, cast
from urllib.parse import urlsplit

from django.contrib.auth.forms import AuthenticationForm, PasswordChangeForm
from django.contrib.auth.mixins import LoginRequiredMixin
from django.contrib.auth.views import LoginView, PasswordChangeDoneView, PasswordChangeView, redirect_to_login
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse_lazy
from django.utils.decorators import method_decorator
from django.views.decorators.debug import sensitive_post_parameters
from django.views.generic import FormView, ListView

from core.ratelimits import LimitedFormMixin, limit_form, limit_form_by_ip
from workspaces import devices
from workspaces.forms import ChangePasswordForm, ChooseWorkspaceForm, SignInForm
from workspaces.models import Action, Actor, AuditEvent, User, Via, Workspace


class SignInView(LoginView):
    """Sign-in with rate limits per client IP and per account against password guessing.

    A browser in which the user has signed in before has a separate limit, so that an attacker who guesses at the
    account can't lock the user out (OWASP, "Slow Down Online Guessing Attacks with Device Cookies"). All such browsers
    of an account share another limit: each sign-in makes a browser known, so their number is unlimited.
    """

    template_name = "registration/sign_in.html"
    form_class = SignInForm

    def setup(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().setup(request, *args, **kwargs)
        # With `reauthenticate` in the URL, a user who is signed in must enter the password again.
        self.redirect_authenticated_user = "reauthenticate" not in request.GET

    @method_decorator(sensitive_post_parameters())
    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        account = User.objects.normalize_email(request.POST.get("username", ""))
        if device_id := devices.get_device_id(request, account):
            limit_form(request, "sign-in-device", device_id, "10/5m")
            limit_form(request, "sign-in-devices", account, "60/5m")
        else:
            limit_form_by_ip(request, "sign-in", "60/5m")
            limit_form(request, "sign-in-account", account, "10/5m")
        return super().post(request, *args, **kwargs)

    def get_redirect_url(self) -> str:  # type: ignore[override]  # the stubs have a later Django's
        """Return the URL to redirect to. Drop a `next` that points to this page: Django raises an error for it."""
        url = super().get_redirect_url()
        return "" if urlsplit(url).path == self.request.path else url

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        response = super().form_valid(form)
        devices.set_device_cookie(response, form.cleaned_data["username"])
        return response


class ChangePasswordView(LimitedFormMixin, LoginRequiredMixin, PasswordChangeView):
    template_name = "registration/change_password.html"
    success_url = reverse_lazy("password-changed")
    form_class = ChangePasswordForm
    form_limit = ("change-password", "10/5m")

    @transaction.atomic
    def form_valid(self, form: PasswordChangeForm) -> HttpResponse:
        user = cast(User, self.request.user)
        if not user.lock_access():  # access ended or password changed since the session was checked
            return redirect_to_login(self.request.path)
        AuditEvent.objects.record(Action.USER_PASSWORD_CHANGED, Actor.of(self.request, Via.PAGE), subject=user.pk)
        return super().form_valid(form)


class PasswordChangedView(LoginRequiredMixin, PasswordChangeDoneView):
    template_name = "registration/password_changed.html"


class WorkspaceListView(LoginRequiredMixin, ListView[Workspace]):
    """The page to choose a workspace, for users who are in several or in none."""

    template_name = "workspaces/choose.html"
    context_object_name = "workspaces"

    def get_queryset(self) -> Any:
        return cast(User, self.request.user).reachable_workspaces()


class ChooseWorkspaceView(LoginRequiredMixin, FormView[ChooseWorkspaceForm]):
    """Receives the form of `WorkspaceListView` and of the switcher."""

    form_class = ChooseWorkspaceForm

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return redirect("workspaces")

    def get_form_kwargs(self) -> dict[str, Any]:
        return {**super().get_form_kwargs(), "user": self.request.user}

    def form_valid(self, form: ChooseWorkspaceForm) -> HttpResponse:
        cast(User, self.request.user).choose(form.cleaned_data["workspace"])
        return redirect("current-api-keys")

    def form_invalid(self, form: ChooseWorkspaceForm) -> HttpResponse:
        raise Http404
