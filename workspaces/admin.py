"""Audit events for operators: filter them, and export what the list shows."""

from collections.abc import Iterator
from datetime import date
from typing import Any, ClassVar, cast

from django.apps import apps
from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import redirect
from django.urls import path
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from core.admin import ReadOnlyMixin, change_url, changelist_url, link
from core.logs import redact
from workspaces.audit_export import download, export_events
from workspaces.ids import IdField, is_id
from workspaces.models import Action, Actor, AuditEvent, User, Via, Workspace
from workspaces.models.audit import AuditEventQuerySet
from workspaces.operators_admin import OperatorsAdmin

RECORDED_FILTER_LENGTH = 200  # characters of a filter's value in the event of an export


class ActionFilter(admin.SimpleListFilter):
    title = "action"
    parameter_name = "action"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(action, action) for action in Action.values]

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditEvent]) -> QuerySet[AuditEvent]:
        return queryset.filter(action=self.value()) if self.value() else queryset


class DaysFilter(admin.ListFilter):
    """A form for the first and the last day, in UTC."""

    title = "day"
    template = "admin/days_filter.html"
    names = ("from", "to")

    def __init__(self, request: HttpRequest, params: Any, model: Any, model_admin: Any) -> None:
        super().__init__(request, params, model, model_admin)
        self.first, self.last = (_parse_day(params.pop(name, [""])[-1]) for name in self.names)

    def has_output(self) -> bool:
        return True

    def choices(self, changelist: Any) -> Iterator[Any]:
        """Yield the other parameters of the list, which the form keeps."""
        for name, values in changelist.filter_params.items():
            if name not in self.names:
                yield from ((name, value) for value in values)

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditEvent]) -> QuerySet[AuditEvent]:
        return cast(AuditEventQuerySet, queryset).on_days(self.first, self.last)

    def expected_parameters(self) -> list[str | None]:
        return [*self.names]


def _parse_day(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError as error:
        raise IncorrectLookupParameters(error) from None


@admin.register(AuditEvent)
class AuditEventAdmin(ReadOnlyMixin, OperatorsAdmin[AuditEvent]):
    list_display = ("created_at", "action_name", "sentence", "about", "workspace", "by")
    list_filter = (DaysFilter, ActionFilter, "via")
    list_select_related = ("workspace", "actor")
    fields = readonly_fields = (
        "created_at",
        "action",
        "sentence",
        "about",
        "workspace",
        "actor",
        "via",
        "client_ip",
        "details",
        "id",
    )
    link_filters: ClassVar = {"workspace": Workspace, "actor": User, "subject": None, "from": None, "to": None}

    @admin.display(description="action")
    def action_name(self, event: AuditEvent) -> SafeString:
        """Return the action, which may wrap between its object and its verb."""
        return format_html("{}{}<wbr>{}", *event.action.partition("."))

    @admin.display(description="about")
    def about(self, event: AuditEvent) -> str:
        """Return the subject, as a link if the prefix of its id is that of a model in this admin."""
        for model in apps.get_models():
            key = model._meta.pk
            is_subject = isinstance(key, IdField) and is_id(key.prefix, event.subject)
            if is_subject and self.admin_site.is_registered(model):
                return link(change_url(model(pk=event.subject)), event.subject)
        return event.subject

    @admin.display(description="by")
    def by(self, event: AuditEvent) -> SafeString:
        """Return the actor, and below it the interface and the client IP."""
        source = f"{event.via} from {event.client_ip}" if event.client_ip else event.via
        if event.actor is None:
            return format_html("{}", source)
        return format_html('{}<br><span class="quiet">{}</span>', event.actor, source)

    # ---- export ----

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.export_view)
        return [path("export/", view, name="workspaces_auditevent_export"), *super().get_urls()]

    def export_view(self, request: HttpRequest) -> HttpResponseBase:
        """Stream the events that the list with this query string shows, on all of its pages, as JSON Lines."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        if request.method != "POST":
            return redirect(changelist_url(AuditEvent))
        try:
            shown = self.get_changelist_instance(request)
        except IncorrectLookupParameters as error:
            raise SuspiciousOperation(error) from None
        filters = {
            name: redact(", ".join(values))[:RECORDED_FILTER_LENGTH]
            for name, values in shown.filter_params.items()
            if any(values)
        }
        events = cast(AuditEventQuerySet, shown.queryset)
        lines = export_events(events, filters, by=Actor.of(request, Via.ADMIN))
        name = f"audit-events-{timezone.now():%Y-%m-%dT%H%M%SZ}.jsonl"
        disposition = f'attachment; filename="{name}"'
        return StreamingHttpResponse(
            download(lines), content_type="application/jsonl", headers={"Content-Disposition": disposition}
        )
