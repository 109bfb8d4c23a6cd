"""The pages under Settings → Developer → API Keys."""

from typing import Any, cast

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.mixins import AccessMixin, LoginRequiredMixin
from django.core.exceptions import ValidationError
from django.core.paginator import Page, Paginator
from django.http import HttpRequest, HttpResponse, HttpResponseBase, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.utils.functional import cached_property
from django.views import View
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.generic import FormView, TemplateView

from apikeys import keys
from apikeys.charts import ChosenUsage
from apikeys.forms import (
    DAY_IS_OVER,
    AddKeyForm,
    DescriptionForm,
    EndPreviousSecretForm,
    FindForm,
    RevokeForm,
    RotateForm,
    looks_like_secret,
)
from apikeys.models import (
    ANY_STATUS,
    MAX_COUNT,
    ApiKey,
    ApiKeyQuerySet,
    ApiKeyStatus,
    ApiKeyUsageQuerySet,
    Counts,
    KeyAlreadyCreated,
    KeyAlreadyRotated,
    KeyMark,
    KeyNotCreated,
    KeyNotRotated,
    KeyOrder,
    Period,
    StoredSecret,
    StoredSecretQuerySet,
)
from apikeys.usage_by_key import UsageByKey
from core.ratelimits import LimitedFormMixin
from core.sites import site_url
from workspaces import quota
from workspaces.access import resolve_workspace
from workspaces.ids import get_by_id, is_id
from workspaces.models import Actor, AuditEvent, NoWorkspaceChosen, User, Via, Workspace
from workspaces.paging import CursorPage, page_after

STATUS_TABS = (ApiKeyStatus.ACTIVE, ApiKeyStatus.EXPIRED, ApiKeyStatus.REVOKED, ANY_STATUS)
KEYS_PER_PAGE = EVENTS_PER_PAGE = 50


class CurrentWorkspaceView(LoginRequiredMixin, View):
    """Redirects from the short URL to the keys of the current workspace."""

    def get(self, request: HttpRequest) -> HttpResponse:
        try:
            workspace = cast(User, request.user).current_workspace()
        except NoWorkspaceChosen:
            return redirect("workspaces")
        return redirect("api-keys", workspace.pk)


class ManagesKeysMixin(AccessMixin):
    """Requires that the user can manage the workspace's keys: members get 403, outsiders 404.

    The role is re-read on every request, so a role change takes effect immediately, and again in the transaction of a
    change (`Workspace.require_key_manager`).
    """

    request: HttpRequest
    kwargs: dict[str, Any]
    workspace: Workspace

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not request.user.is_authenticated:
            return self.handle_no_permission()
        user = request.user
        self.workspace = resolve_workspace(user, kwargs["workspace_id"])
        if not self.workspace.can_manage_keys(user):
            return render(request, "apikeys/managers_only.html", {"workspace": self.workspace}, status=403)
        return super().dispatch(request, *args, **kwargs)  # type: ignore[misc, no-any-return]  # the view's

    @property
    def keys(self) -> ApiKeyQuerySet:
        return self.workspace.api_keys.with_users().with_secrets().with_marks()

    @property
    def workspace_secrets(self) -> StoredSecretQuerySet:
        return StoredSecret.objects.filter(workspace=self.workspace).select_related("api_key")

    @property
    def actor(self) -> Actor:
        return Actor.of(self.request, Via.PAGE)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(  # type: ignore[misc, no-any-return]  # the view's
            workspace=self.workspace, active_limit=settings.APIKEYS_MAX_ACTIVE, **kwargs
        )

    def changed(self) -> set[str]:
        """Return the tags of the messages. A tag names what a change was confirmed of, which the page highlights."""
        return {message.extra_tags for message in messages.get_messages(self.request) if message.extra_tags}


def text_and_status(params: QueryDict) -> tuple[str, str]:
    """Return the text and the status to search for. An invalid status becomes `active`."""
    text = params.get("q", "").replace("\x00", "")
    text = "" if looks_like_secret(text) else text  # FindKeyView never redirects here with a secret; show none
    status = params.get("status", ANY_STATUS if text else ApiKeyStatus.ACTIVE)
    return text, status if status in STATUS_TABS else ApiKeyStatus.ACTIVE


def chosen_mark(params: QueryDict) -> KeyMark | None:
    """Return the mark to filter by. An invalid one is ignored."""
    mark = params.get("show", "")
    return KeyMark(mark) if mark in KeyMark else None


def chosen_order(params: QueryDict) -> KeyOrder:
    """Return the order to sort the list by. An invalid one becomes newest first."""
    order = params.get("sort", "")
    return KeyOrder(order) if order in KeyOrder else KeyOrder.CREATED


def valid_filters(params: QueryDict, **others: str) -> dict[str, str]:
    """Return the parameters for a link to the list with the same mark and order, and the `others` that are set."""
    mark, order = chosen_mark(params), chosen_order(params)
    filters = others | {"show": mark.value if mark else "", "sort": "" if order is KeyOrder.CREATED else order.value}
    return {name: value for name, value in filters.items() if value}


class KeyListView(ManagesKeysMixin, TemplateView):
    template_name = "apikeys/list.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(
            **self._numbers(),
            **self._listed_keys(),
            quota=quota.status(self.workspace.pk, self.workspace.tier),
            changed=self.changed(),
            **kwargs,
        )

    def _numbers(self) -> dict[str, Any]:
        """Return the context of the tabs and of the limit on active keys."""
        counts = self.workspace.api_keys.count_by_status()
        limit = settings.APIKEYS_MAX_ACTIVE
        return {
            "tabs": [(tab, counts[tab]) for tab in STATUS_TABS],
            "max_count": MAX_COUNT,
            "active_count": counts[ApiKeyStatus.ACTIVE],
            "many_active": limit - quota.low(limit),
            "any_keys": bool(counts[ANY_STATUS]),
        }

    def _listed_keys(self) -> dict[str, Any]:
        """Return the context of the table: the keys of one page, and what they were searched and sorted by."""
        text, status = text_and_status(self.request.GET)
        mark, order = chosen_mark(self.request.GET), chosen_order(self.request.GET)
        searched, found = self._secret_search()
        api_keys = self.keys.filter(pk=found.api_key_id) if found else self._listed(text, status, mark, order)
        page: Page[ApiKey] = Paginator(api_keys, KEYS_PER_PAGE).get_page(self.request.GET.get("page"))
        return {
            "page": page,
            "usage": UsageByKey(self.workspace, list(page)),
            "q": text,
            "status": status,
            "mark": mark,
            "marks": self._marks(mark),
            "order": order,
            "orders": KeyOrder,
            "filters": self._filters(text, status),
            "searched_secret": searched,
            "found_secret": found,
        }

    def _listed(self, text: str, status: str, mark: KeyMark | None, order: KeyOrder) -> ApiKeyQuerySet:
        api_keys = self.keys.with_status(status).in_order(order)
        if text:
            api_keys = api_keys.matching(text)
        return api_keys.with_mark(mark) if mark else api_keys

    def _marks(self, chosen: KeyMark | None) -> list[tuple[KeyMark, int]]:
        """Return the marks that keys have, and the chosen one, with the numbers of keys."""
        numbers = self.workspace.api_keys.count_marks()
        return [(mark, number) for mark, number in numbers.items() if number or mark is chosen]

    def _filters(self, text: str, status: str) -> QueryDict:
        """Return the parameters for links to the same list. Unlike those of the request, they contain no secret."""
        query = QueryDict(mutable=True)
        query.update(valid_filters(self.request.GET, q=text, status=status if "status" in self.request.GET else ""))
        return query

    def _secret_search(self) -> tuple[str, StoredSecret | None]:
        """Return the parameter `secret`, which FindKeyView sets, and the stored secret with this key id, or None.

        The parameter is a key id, `unknown` or `incomplete`. It is empty if no secret was searched for.
        """
        key_id = self.request.GET.get("secret", "")
        stored = self.workspace_secrets.filter(pk=key_id).first() if keys.KEY_ID_PATTERN.fullmatch(key_id) else None
        return key_id, stored


class QuotaView(ManagesKeysMixin, TemplateView):
    """An HTML fragment with the current quota, which the list refreshes."""

    template_name = "apikeys/_quota.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(quota=quota.status(self.workspace.pk, self.workspace.tier), **kwargs)


@method_decorator(sensitive_post_parameters(), name="dispatch")
class FindKeyView(LimitedFormMixin, ManagesKeysMixin, FormView[FindForm]):
    """Searches the keys. POST, because a user may paste a secret, which must not appear in a URL or a log."""

    form_class = FindForm
    form_limit = ("find-key", "60/m")

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return redirect("api-keys", self.workspace.pk)

    @sensitive_variables()
    def form_valid(self, form: FindForm) -> HttpResponse:
        text = form.cleaned_data["text"]
        if secret := keys.find(text):
            stored = self.workspace_secrets.find_by_secret(secret)
            query = {"secret": stored.key_id if stored else "unknown"}
        elif looks_like_secret(text):
            query = {"secret": "incomplete"}
        else:
            query = valid_filters(self.request.GET, q=text)
        return redirect(reverse("api-keys", args=[self.workspace.pk], query=query))

    def form_invalid(self, form: FindForm) -> HttpResponse:
        return redirect("api-keys", self.workspace.pk)


class AddKeyView(LimitedFormMixin, ManagesKeysMixin, FormView[AddKeyForm]):
    """The form to create a key. Only the response that creates the key shows its secret."""

    template_name = "apikeys/add.html"
    form_class = AddKeyForm
    form_limit = ("add-key", "60/5m")

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(active_count=self.workspace.api_keys.active().count(), **kwargs)

    @sensitive_variables("secret")
    def form_valid(self, form: AddKeyForm) -> HttpResponse:
        try:
            api_key, secret = self._create_key(form)
        except KeyAlreadyCreated as duplicate:
            return redirect(reverse("api-key", args=[self.workspace.pk, duplicate.api_key.pk], query={"duplicate": 1}))
        except KeyNotCreated as error:
            form.add_error(None, str(error))
            return self.form_invalid(form)
        except ValidationError:  # the form is valid, but its last day ended before the key was created
            form.add_error("expires_on", DAY_IS_OVER)
            return self.form_invalid(form)
        messages.success(self.request, "Key created.", extra_tags=api_key.pk)  # the next page shows it
        context = self.get_context_data(form=form, api_key=api_key, secret=secret, site=site_url(self.request))
        return render(self.request, "apikeys/secret.html", context)

    def _create_key(self, form: AddKeyForm) -> tuple[ApiKey, str]:
        return ApiKey.objects.create_key(
            self.workspace,
            description=form.cleaned_data["description"],
            expires_at=form.expires_at,
            by=self.actor,
            idempotency_key=form.cleaned_data["idempotency_key"],
        )


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
