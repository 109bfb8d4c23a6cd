"""The pages of one key."""

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.functional import cached_property
from django.views.decorators.debug import sensitive_variables
from django.views.generic import FormView, TemplateView

from apikeys import keys
from apikeys.charts import ChosenUsage
from apikeys.forms import DescriptionForm, EndPreviousSecretForm, RevokeForm, RotateForm
from apikeys.models import ApiKey, ApiKeyUsageQuerySet, Counts, KeyAlreadyRotated, KeyNotRotated, Period
from apikeys.views.access import ManagesKeysMixin
from core.ratelimits import LimitedFormMixin
from core.sites import site_url
from workspaces.ids import get_by_id, is_id
from workspaces.models import AuditEvent
from workspaces.paging import CursorPage, page_after

EVENTS_PER_PAGE = 50


class OneKeyMixin(ManagesKeysMixin):
    @cached_property
    def api_key(self) -> ApiKey:
        return get_by_id(self.keys, self.kwargs["api_key_id"])

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(api_key=self.api_key, previous=self.api_key.previous_secret, **kwargs)

    @cached_property
    def requests_last_day(self) -> int:
        """The key's requests in the last 24 hours, for the templates that show them."""
        return Counts.sum(counts for _, counts in self.usage_of_key.in_period(Period.last_day()).by_key()).requests

    @property
    def usage_of_key(self) -> ApiKeyUsageQuerySet:
        return self.api_key.usage.filter(workspace=self.workspace)

    def get_success_url(self) -> str:
        return reverse("api-key", args=[self.workspace.pk, self.api_key.pk])


class KeyPageMixin(OneKeyMixin):
    """The page of a key, with its forms, history and usage."""

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        forms = {
            "revoke_form": RevokeForm(api_key=self.api_key),
            "rotate_form": RotateForm(api_key=self.api_key),
            "rename_form": DescriptionForm(initial={"description": self.api_key.description}),
        }
        return super().get_context_data(**forms | kwargs)

    @cached_property
    def history(self) -> CursorPage[AuditEvent]:
        """The key's audit events, newest first."""
        cursor = self.request.GET.get("before", "")
        return page_after(self.api_key.audit_events, cursor if is_id("evt", cursor) else "", EVENTS_PER_PAGE)

    @cached_property
    def usage(self) -> ChosenUsage:
        return ChosenUsage.of(self.usage_of_key, self.request.GET)


class KeyView(KeyPageMixin, TemplateView):
    template_name = "apikeys/key.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        duplicate = self.request.GET.get("duplicate")
        return super().get_context_data(duplicate=duplicate, changed=self.changed(), **kwargs)


class RenameKeyView(LimitedFormMixin, KeyPageMixin, FormView[DescriptionForm]):
    """Receives the form of `KeyView`, and shows that page again if the form is invalid."""

    template_name = "apikeys/key.html"
    form_class = DescriptionForm
    form_limit = ("rename-key", "120/5m")

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return redirect(self.get_success_url())

    def form_valid(self, form: DescriptionForm) -> HttpResponse:
        if self.api_key.rename(form.cleaned_data["description"], by=self.actor):
            messages.success(self.request, "Key renamed.", extra_tags="description")
        else:
            messages.info(self.request, "The key has this description already.", extra_tags="description")
        return super().form_valid(form)

    def form_invalid(self, form: DescriptionForm) -> HttpResponse:
        return self.render_to_response(self.get_context_data(form=form, rename_form=form))


class RotateKeyView(LimitedFormMixin, OneKeyMixin, FormView[RotateForm]):
    """GET shows the form; POST rotates the key. Only the response that rotates it shows the new secret."""

    template_name = "apikeys/rotate.html"
    form_class = RotateForm
    form_limit = ("rotate-key", "60/5m")

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not self.api_key.is_active:
            return redirect(self.get_success_url())
        return super().get(request, *args, **kwargs)

    def get_form_kwargs(self) -> dict[str, Any]:
        return super().get_form_kwargs() | {"api_key": self.api_key}

    @sensitive_variables("secret")
    def form_valid(self, form: RotateForm) -> HttpResponse:
        try:
            secret = self.api_key.rotate(by=self.actor, **form.cleaned_data)
        except KeyAlreadyRotated:
            return redirect(f"{self.get_success_url()}?duplicate=rotation")
        except KeyNotRotated as error:
            form.add_error(None, str(error))
            return self.form_invalid(form)
        messages.success(self.request, "Key rotated.")  # the next page shows it
        context = self.get_context_data(form=form, secret=secret, rotated=True, site=site_url(self.request))
        return render(self.request, "apikeys/secret.html", context)


class FirstRequestView(OneKeyMixin, TemplateView):
    """An HTML fragment that says whether a secret has been used. The page with the secret refreshes it."""

    template_name = "apikeys/_first_request.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        stored = get_object_or_404(self.api_key.secrets.without_hashes(), pk=self.kwargs["key_id"])
        return super().get_context_data(stored=stored, **kwargs)


class PreviousSecretView(OneKeyMixin, TemplateView):
    """An HTML fragment with the use of the previous secret, which the page of the key refreshes."""

    template_name = "apikeys/_previous_secret.html"


class EndPreviousSecretView(LimitedFormMixin, OneKeyMixin, FormView[EndPreviousSecretForm]):
    """GET shows the confirmation page; POST ends the previous secret."""

    template_name = "apikeys/end_previous_secret.html"
    form_class = EndPreviousSecretForm
    form_limit = ("end-previous-secret", "120/5m")

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if self.api_key.previous_secret is None:
            return redirect(self.get_success_url())
        return super().get(request, *args, **kwargs)

    def form_valid(self, form: EndPreviousSecretForm) -> HttpResponse:
        key_id = form.cleaned_data["key_id"]
        if self.api_key.end_previous_secret(by=self.actor, key_id=key_id):
            messages.success(self.request, "Old secret ended.")
        else:
            problem = f"{keys.mask(key_id)} is not an old secret of this key that still works."
            messages.warning(self.request, f"Nothing was ended: {problem}")
        return super().form_valid(form)

    def form_invalid(self, form: EndPreviousSecretForm) -> HttpResponse:
        messages.warning(self.request, "Nothing was ended, because the form was incomplete. Try again.")
        return redirect(self.get_success_url())


class RevokeKeyView(LimitedFormMixin, OneKeyMixin, FormView[RevokeForm]):
    """GET shows the confirmation page; POST revokes the key."""

    template_name = "apikeys/revoke.html"
    form_class = RevokeForm
    form_limit = ("revoke-key", "120/5m")

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if self.api_key.revoked_at is not None:
            return redirect(self.get_success_url())
        return super().get(request, *args, **kwargs)

    def get_form_kwargs(self) -> dict[str, Any]:
        return super().get_form_kwargs() | {"api_key": self.api_key}

    def form_valid(self, form: RevokeForm) -> HttpResponse:
        if self.api_key.revoke(by=self.actor, reason=form.cleaned_data["reason"]):
            messages.success(self.request, "Key revoked.", extra_tags="status")
        return super().form_valid(form)

    def form_invalid(self, form: RevokeForm) -> HttpResponse:
        if self.api_key.revoked_at is not None:
            return redirect(self.get_success_url())
        return super().form_invalid(form)
