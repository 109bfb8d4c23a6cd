"""The pages about all keys of a workspace: the list with its search, and the form to add a key."""

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.core.paginator import Page, Paginator
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.generic import FormView, TemplateView

from apikeys import keys
from apikeys.forms import DAY_IS_OVER, AddKeyForm, FindForm, looks_like_secret
from apikeys.models import (
    ANY_STATUS,
    MAX_COUNT,
    ApiKey,
    ApiKeyQuerySet,
    ApiKeyStatus,
    KeyAlreadyCreated,
    KeyMark,
    KeyNotCreated,
    KeyOrder,
    StoredSecret,
)
from apikeys.usage_by_key import UsageByKey
from apikeys.views.access import ManagesKeysMixin
from core.ratelimits import LimitedFormMixin
from core.sites import site_url
from workspaces import quota

STATUS_TABS = (ApiKeyStatus.ACTIVE, ApiKeyStatus.EXPIRED, ApiKeyStatus.REVOKED, ANY_STATUS)
KEYS_PER_PAGE = 50


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
