from typing import Any, cast
from urllib.parse import urlsplit

from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.mixins import LoginRequiredMixin
from django.contrib.auth.views import LoginView, PasswordChangeDoneView, PasswordChangeView
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse_lazy
from django.utils.decorators import method_decorator
from django.views.decorators.debug import sensitive_post_parameters
from django.views.generic import FormView, ListView

from core.ratelimits import limit_form
from workspaces import devices
from workspaces.forms import ChooseWorkspaceForm, SignInForm, email_of
from workspaces.models import User, Workspace


class SignInView(LoginView):
    """Guarded per address and per account: a guesser is slowed on either count.

    A browser in which a person has signed in before has a count of its own, so that nobody can lock them out of it
    by guessing at their account (OWASP, "Slow Down Online Guessing Attacks with Device Cookies").
    """

    template_name = "registration/sign_in.html"
    form_class = SignInForm
    redirect_authenticated_user = True

    @method_decorator(sensitive_post_parameters())
    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        account = email_of(request.POST.get("username", ""))
        if device := devices.known(request, account):
            limit_form(request, "sign-in-device", device, "10/5m")
        else:
            limit_form(request, "sign-in", "ip", "60/5m")
            limit_form(request, "sign-in-account", account, "10/5m")
        return super().post(request, *args, **kwargs)

    def get_redirect_url(self) -> str:  # type: ignore[override]  # the stubs have a later Django's
        """Where to go then; not here again, which Django answers with an error."""
        url = super().get_redirect_url()
        return "" if urlsplit(url).path == self.request.path else url

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        response = super().form_valid(form)
        devices.remember(response, form.cleaned_data["username"])
        return response


class ChangePasswordView(LoginRequiredMixin, PasswordChangeView):
    template_name = "registration/change_password.html"
    success_url = reverse_lazy("password-changed")

    @method_decorator(sensitive_post_parameters())
    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        limit_form(request, "change-password", str(request.user.pk), "10/5m")
        return super().post(request, *args, **kwargs)


class PasswordChangedView(LoginRequiredMixin, PasswordChangeDoneView):
    template_name = "registration/password_changed.html"


class WorkspaceListView(LoginRequiredMixin, ListView[Workspace]):
    """Where to go, for who is in several workspaces and has chosen none."""

    template_name = "workspaces/choose.html"
    context_object_name = "workspaces"

    def get_queryset(self) -> Any:
        return cast(User, self.request.user).reachable_workspaces()


class ChooseWorkspaceView(LoginRequiredMixin, FormView[ChooseWorkspaceForm]):
    form_class = ChooseWorkspaceForm
    http_method_names = ["post"]

    def get_form_kwargs(self) -> dict[str, Any]:
        return {**super().get_form_kwargs(), "user": self.request.user}

    def form_valid(self, form: ChooseWorkspaceForm) -> HttpResponse:
        cast(User, self.request.user).choose(form.cleaned_data["workspace"])
        return redirect("current-api-keys")

    def form_invalid(self, form: ChooseWorkspaceForm) -> HttpResponse:
        raise Http404
