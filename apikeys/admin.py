"""API keys in the admin. Never shows a hash. Accepts a secret only in a POST body, never in a URL."""

from datetime import datetime
from typing import Any, ClassVar, cast

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import CharField, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.loader import render_to_string
from django.urls import path, reverse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.formats import date_format
from django.utils.safestring import SafeString
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables

from apikeys.forms import FindForm, KeylessInput, ReasonForm, looks_like_secret
from apikeys.models import (
    ANY_STATUS,
    ApiKey,
    ApiKeyQuerySet,
    ApiKeyStatus,
    ApiKeyUsage,
    ApiKeyUsageQuerySet,
    Period,
    StoredSecret,
)
from apikeys.usage_admin import BUSIEST, UsageMixin, busiest_keys
from core.admin import change_url, changelist_url, link
from workspaces.ids import is_id
from workspaces.models import Actor, User, Via, Workspace
from workspaces.operators_admin import OperatorsAdmin

MAX_REVOKED_AT_ONCE = 500  # keys per confirmation page
MAX_SECRETS_SHOWN = 20  # on a key's page


@sensitive_variables()
def search_url(text: str) -> str:
    """Return the URL of the filtered list, or of the search form if `text` is blank or may be a secret."""
    if is_id("w", text):
        return changelist_url(ApiKey, workspace=text)
    if is_id("u", text):
        return changelist_url(ApiKey, created_by=text)
    if not text or looks_like_secret(text):
        return reverse("admin:apikeys_apikey_find", query={"unknown": 1})
    return changelist_url(ApiKey, q=text)


def _state(stored: StoredSecret) -> str:
    """Return `current`, `previous` or `ended`."""
    end = stored.works_until
    if end is not None and end <= timezone.now():
        return "ended"
    return "current" if stored.is_current else "previous"


def _found_by(stored: StoredSecret) -> str:
    """Return the sentence that says which of its key's secrets this is."""
    end = date_format(stored.works_until, "DATETIME_FORMAT") if stored.works_until else ""
    which = {
        "current": "current secret",
        "previous": f"previous secret, which works until {end}",
        "ended": f"{'last' if stored.is_current else 'earlier'} secret, which ended on {end}",
    }
    return f"This key was found by its {which[_state(stored)]}: {stored.masked}"


class StatusFilter(admin.SimpleListFilter):
    title = "status"
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        shown = (ApiKeyStatus.ACTIVE, ApiKeyStatus.EXPIRED, ApiKeyStatus.REVOKED)
        return [(status.value, status.label) for status in shown]

    def queryset(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> QuerySet[ApiKey]:
        status = self.value()
        return cast(ApiKeyQuerySet, queryset).with_status(status if status in ApiKeyStatus.values else ANY_STATUS)


@admin.register(ApiKey)
class ApiKeyAdmin(UsageMixin, OperatorsAdmin[ApiKey]):
    list_display = (
        "masked",
        "description",
        "in_workspace",
        "status",
        "created_at",
        "created_by",
        "last_used_at",
        "expires_at",
    )
    list_filter = (StatusFilter,)
    list_select_related = ("workspace", "created_by")
    search_fields = ("description",)  # enables the search; see `get_search_results`
    actions = ("revoke_selected",)
    readonly_fields = (
        "id",
        "masked",
        "workspace",
        "status",
        "created_at",
        "created_by",
        "expires_at",
        "revoked_at",
        "revoked_by",
        "revoke_reason",
        "newest_secrets",
    )
    fields = ("description", *readonly_fields)
    formfield_overrides: ClassVar = {CharField: {"widget": KeylessInput(attrs={"class": "vTextField"})}}
    link_filters: ClassVar = {"workspace": Workspace, "created_by": User}

    def get_queryset(self, request: HttpRequest) -> QuerySet[ApiKey]:
        return cast(ApiKeyQuerySet, super().get_queryset(request)).with_secrets()

    @admin.display(description="last used")
    def last_used_at(self, api_key: ApiKey) -> datetime | None:
        return api_key.current_secret.last_used_at

    @admin.display(description="secrets")
    def newest_secrets(self, api_key: ApiKey) -> str:
        newest = list(api_key.secrets.without_hashes()[: MAX_SECRETS_SHOWN + 1])
        context = {
            "rows": [(stored, _state(stored)) for stored in newest[:MAX_SECRETS_SHOWN]],
            "limit": MAX_SECRETS_SHOWN if len(newest) > MAX_SECRETS_SHOWN else None,
        }
        return render_to_string("admin/secrets.html", context)

    @admin.display(description="workspace")
    def in_workspace(self, api_key: ApiKey) -> SafeString:
        return link(change_url(api_key.workspace), api_key.workspace)

    # ---- permissions ----

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        return super().has_change_permission(request, obj) and (obj is None or obj.revoked_at is None)

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("apikeys.revoke_apikey")

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        obj.rename(form.cleaned_data["description"], by=Actor.of(request, Via.ADMIN))

    # ---- search ----

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view
        return [
            path("find/", view(self.find_view), name="apikeys_apikey_find"),
            path("busiest/", view(self.busiest_view), name="apikeys_apikey_busiest"),
            path("revoke/", view(self.revoke_view), name="apikeys_apikey_revoke"),
            path("revoke-all/<str:workspace_id>/", view(self.revoke_all_view), name="apikeys_apikey_revoke_all"),
            *super().get_urls(),
        ]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if looks_like_secret(request.GET.get("q", "")):
            return redirect("admin:apikeys_apikey_find")  # the list's own form posts to find_view instead
        return super().changelist_view(request, extra_context)

    @method_decorator(sensitive_post_parameters())
    @sensitive_variables()
    def find_view(self, request: HttpRequest) -> HttpResponse:
        """Redirect to the key, or to the list with a search. Text that may be a secret never enters a URL."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        if request.method != "POST":
            return self.page(request, "find.html", title="Find a key", unknown="unknown" in request.GET)
        form = FindForm(request.POST)
        text = form.cleaned_data["text"] if form.is_valid() else ""
        try:
            stored = StoredSecret.objects.look_up(text)
        except StoredSecret.DoesNotExist:
            return redirect(search_url(text))
        if not is_id("key", text):
            messages.info(request, _found_by(stored))
        return redirect(change_url(stored.api_key))

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[ApiKey], search_term: str
    ) -> tuple[QuerySet[ApiKey], bool]:
        """Search by the start of a description, key id, workspace or creator. Each of these has an index."""
        text = search_term.strip()
        if not text:
            return queryset, False
        workspaces = Workspace.objects.filter(Q(slug__startswith=text.lower()) | Q(name__istartswith=text))
        creators = User.objects.filter(Q(email__startswith=text.lower()) | Q(name__istartswith=text))
        secrets = StoredSecret.objects.starting_with(text)
        matches = (
            Q(description__istartswith=text)
            | Q(workspace__in=list(workspaces.order_by().values_list("pk", flat=True)[:100]))
            | Q(created_by__in=list(creators.order_by().values_list("pk", flat=True)[:100]))
            | Q(pk__in=list(secrets.order_by().values_list("api_key", flat=True)[:100]))
        )
        return queryset.filter(matches), False

    # ---- usage ----

    def usage_of(self, obj: ApiKey) -> ApiKeyUsageQuerySet:
        return ApiKeyUsage.objects.filter(workspace=obj.workspace_id, api_key=obj)

    def busiest_view(self, request: HttpRequest) -> HttpResponse:
        """List the workspaces and the keys with the most requests of the last day."""
        if not (self.has_view_permission(request) and request.user.has_perm("workspaces.view_workspace")):
            raise PermissionDenied
        usage = ApiKeyUsage.objects.in_period(Period.last_day())
        workspaces = usage.busiest_workspaces(BUSIEST)
        by_id = Workspace.objects.in_bulk([pk for pk, _ in workspaces])
        return self.page(
            request,
            "busiest.html",
            title="Busiest in the last 24 hours",
            workspaces=[(by_id[pk], counts) for pk, counts in workspaces],
            keys=busiest_keys(usage),
        )

    # ---- revocation ----

    @admin.action(description="Revoke selected keys", permissions=["revoke"])
    def revoke_selected(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> HttpResponse | None:
        chosen = list(queryset[: MAX_REVOKED_AT_ONCE + 1])
        if len(chosen) > MAX_REVOKED_AT_ONCE:
            messages.error(request, f"Select at most {MAX_REVOKED_AT_ONCE} keys at a time.")
            return None
        return self._confirm(request, chosen, ReasonForm())

    def revoke_view(self, request: HttpRequest) -> HttpResponse:
        if not self.has_revoke_permission(request):
            raise PermissionDenied
        is_post = request.method == "POST"
        ids = (request.POST if is_post else request.GET).getlist("key")[:MAX_REVOKED_AT_ONCE]
        chosen = list(self.get_queryset(request).select_related("workspace").filter(pk__in=ids))
        form = ReasonForm(request.POST if is_post else None)
        if not form.is_valid():
            return self._confirm(request, chosen, form)
        actor, reason = Actor.of(request, Via.ADMIN), form.cleaned_data["reason"]
        outcomes = [(api_key, api_key.revoke(by=actor, reason=reason)) for api_key in chosen]
        return self.page(request, "revoked.html", title="Revocation results", outcomes=outcomes)

    def revoke_all_view(self, request: HttpRequest, workspace_id: str) -> HttpResponse:
        """Revoke all active keys of a workspace, for staff who may see its page, from which they come."""
        if not (self.has_revoke_permission(request) and request.user.has_perm("workspaces.view_workspace")):
            raise PermissionDenied
        workspace = get_object_or_404(Workspace, pk=workspace_id)
        form = ReasonForm(request.POST if request.method == "POST" else None)
        if not form.is_valid():
            count = ApiKey.objects.active().filter(workspace=workspace).count()
            if not count:
                messages.warning(request, f"{workspace} has no active keys.")
                return redirect(change_url(workspace))
            keys = "1 active key" if count == 1 else f"{count} active keys"
            message = f"It has {keys}. Requests with its keys will fail immediately. This can't be undone."
            title = f"Revoke all keys of {workspace}?"
            verb = "Revoke all keys"
            return self.confirm(request, workspace, form, title=title, message=message, verb=verb, is_dangerous=True)
        actor, reason = Actor.of(request, Via.ADMIN), form.cleaned_data["reason"]
        count = ApiKey.objects.revoke_all(workspace, by=actor, reason=reason)
        messages.success(request, f"{count} key{'' if count == 1 else 's'} of {workspace} revoked.")
        return redirect(change_url(workspace))

    def _confirm(self, request: HttpRequest, chosen: list[ApiKey], form: ReasonForm) -> HttpResponse:
        title = f"Revoke {len(chosen)} key{'' if len(chosen) == 1 else 's'}?"
        return self.page(request, "revoke.html", title=title, chosen=chosen, form=form)
