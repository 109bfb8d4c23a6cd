"""Audit events for operators, and the base class of admins that write them."""

from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar, cast

from django import forms
from django.apps import apps
from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse

from core.admin import BoundedPaginator, ReadOnlyMixin, change_url, changelist_url, link
from core.client_ip import client_ip
from workspaces.ids import IdField, is_id
from workspaces.models import Action, Actor, AuditEvent, User, Via, Workspace

M = TypeVar("M", bound=Model)


def actor_of(request: HttpRequest) -> Actor:
    return Actor(Via.ADMIN, cast(User, request.user), client_ip(request))


class OperatorsAdmin(admin.ModelAdmin[M]):
    """Base class of all admins: lists that stay fast with a million rows, and the audit events as the history."""

    paginator = BoundedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 50
    sortable_by = ()
    ordering = ("-pk",)
    # The fields that a link from another page may filter this list by, with the model of a foreign key.
    narrowed_by: ClassVar[Mapping[str, type[Model] | None]] = {}
    events_by = "subject"  # the field of the audit events that holds the id of one of these rows

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        filters = []
        for name, model in self.narrowed_by.items():
            if value := request.GET.get(name):
                item = model._default_manager.filter(pk=value).first() if model else value
                filters.append(f"{name.replace('_', ' ')}: {item or 'unknown'}")
        return super().changelist_view(request, {"subtitle": ", ".join(filters), **(extra_context or {})})

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """Allow only the filters that pages link to: `?hash__startswith=` would reveal a hash bit by bit."""
        filters = (each if isinstance(each, str) else each.parameter_name for each in self.list_filter)  # type: ignore[union-attr]
        return lookup.removesuffix("__exact") in {*self.narrowed_by, *filters}

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return redirect(changelist_url(AuditEvent, **{self.events_by: unquote(object_id)}))

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any: ...

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any: ...

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any: ...

    def page(self, request: HttpRequest, template: str, **context: Any) -> HttpResponse:
        """Render a page of this model besides Django's own."""
        context = {**self.admin_site.each_context(request), "opts": self.opts, **context}
        return TemplateResponse(request, f"admin/{template}", context)


def changes_in(form: forms.ModelForm[Any]) -> dict[str, list[Any]]:
    """What a form changed, as `{field: [before, after]}`. A password or a secret is nobody's to read."""
    changes = {}
    for name in form.changed_data:
        if "password" not in name and "secret" not in name:
            before, sent = form.get_initial_for_field(form.fields[name], name), form.cleaned_data[name]
            after = sent if isinstance(sent, QuerySet) else getattr(form.instance, name)
            changes[name] = [_plain(before), _plain(after)]
    return changes


def _plain(value: Any) -> Any:
    if isinstance(value, QuerySet | list):
        return [str(each) for each in value]
    return value.pk if isinstance(value, Model) else value


class AuditedAdmin(OperatorsAdmin[M]):
    def save_model(self, request: HttpRequest, obj: M, form: Any, change: bool) -> None:
        """Of what is there already only what the form changed is saved: the rest may have changed since it was read."""
        if not change:
            super().save_model(request, obj, form, change)
        elif columns := {field.name for field in self.opts.concrete_fields}.intersection(form.changed_data):
            obj.save(update_fields=columns)
        if form.changed_data:
            self.record(request, "changed" if change else "created", obj, changes=changes_in(form))

    def delete_model(self, request: HttpRequest, obj: M) -> None:
        self.record(request, "deleted", obj)
        super().delete_model(request, obj)

    def record(self, request: HttpRequest, verb: str, obj: M, **details: Any) -> None:
        action = Action(f"{self.opts.model_name}.{verb}")
        AuditEvent.objects.record(action, actor_of(request), **self.about(obj), **details)

    def about(self, obj: M) -> dict[str, Any]:
        return {"subject": obj.pk}


class ActionFilter(admin.SimpleListFilter):
    title = "action"
    parameter_name = "action"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(action, action) for action in Action.values]

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditEvent]) -> QuerySet[AuditEvent]:
        return queryset.filter(action=self.value()) if self.value() else queryset


@admin.register(AuditEvent)
class AuditEventAdmin(ReadOnlyMixin, OperatorsAdmin[AuditEvent]):
    list_display = ("created_at", "action", "sentence", "about", "workspace", "actor", "via", "client_ip")
    list_filter = (ActionFilter, "via")
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
    narrowed_by: ClassVar = {"workspace": Workspace, "actor": User, "subject": None}

    @admin.display(description="about")
    def about(self, event: AuditEvent) -> str:
        """Return the subject, as a link if the prefix of its id belongs to a model of this site."""
        for model in apps.get_models():
            key = model._meta.pk
            is_subject = isinstance(key, IdField) and is_id(key.prefix, event.subject)
            if is_subject and self.admin_site.is_registered(model):
                return link(change_url(model(pk=event.subject)), event.subject)
        return event.subject
