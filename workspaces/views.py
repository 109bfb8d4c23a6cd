from typing import Any, cast

from django.contrib.auth.mixins import LoginRequiredMixin
from django.contrib.auth.views import LoginView, PasswordChangeDoneView, PasswordChangeView
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse_lazy
from django.utils.decorators import method_decorator
from django.views.decorators.debug import sensitive_post_parameters
from django.views.generic import FormView, ListView

from onehorizon.ratelimits import limit_form
from workspaces.forms import ChooseWorkspaceForm, SignInForm
from workspaces.models import User, Workspace


class SignInView(LoginView):
    """Guarded per address and per account: a guesser is slowed on either count."""

    template_name = "registration/sign_in.html"
    form_class = SignInForm
    redirect_authenticated_user = True

    @method_decorator(sensitive_post_parameters())
    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        limit_form(request, "sign-in", "ip", "60/5m")
        limit_form(request, "sign-in-account", request.POST.get("username", "").strip().lower(), "10/5m")
        return super().post(request, *args, **kwargs)


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
