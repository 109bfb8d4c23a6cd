"""Base classes of the operators' admins, which write audit events."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

from django import forms
from django.contrib import admin, messages
from django.contrib.admin import helpers
from django.contrib.admin.utils import unquote
from django.contrib.admin.views.main import ERROR_FLAG
from django.core.exceptions import PermissionDenied, SuspiciousOperation, ValidationError
from django.db import IntegrityError, transaction
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse

from core.admin import BoundedPaginator, PlainFieldsMixin, change_url, changelist_url
from workspaces.models import Action, Actor, AuditEvent, Via

M = TypeVar("M", bound=Model)


class ChangeForm(forms.ModelForm[Any]):
    """Changes only the fields that the operator changed.

    The page contains each field's value as it was shown, so an operator who sends an outdated page doesn't undo what
    others changed meanwhile. Data without those values, which no page sends, is compared with the current values.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        is_from_page = any(self.add_initial_prefix(name) in self.data for name in self.fields)
        if not self.instance._state.adding and (is_from_page or not self.is_bound):
            for field in self.fields.values():
                field.show_hidden_initial = True

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if self.instance._state.adding:  # a callable default would return another value than the page showed
            return cleaned
        for name, field in self.fields.items():
            if field.show_hidden_initial and name in cleaned and name not in self.changed_data:
                cleaned[name] = field.clean(self.get_initial_for_field(field, name))
        return cleaned


class OperatorsAdmin(PlainFieldsMixin, admin.ModelAdmin[M]):
    """Base class of all admins: lists that are fast with a million rows, and audit events instead of Django's log."""

    form = ChangeForm
    view_on_site = False
    paginator = BoundedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 50
    sortable_by = ()
    ordering = ("-pk",)
    # Parameters that filter this list and appear in its title, each with its model if it is a foreign key.
    link_filters: ClassVar[Mapping[str, type[Model] | None]] = {}
    event_filter = "subject"  # the field of `AuditEvent` that has the id of an object of this admin

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if ERROR_FLAG in request.GET and len(request.GET) > 1:  # only Django sends it, alone
            return redirect(f"{request.path}?{ERROR_FLAG}=1")
        filters = []
        for name, model in self.link_filters.items():
            if value := request.GET.get(name):
                item = model._default_manager.filter(pk=value).first() if model else value
                filters.append(f"{name.replace('_', ' ')}: {item or 'unknown'}")
        return super().changelist_view(request, {"subtitle": ", ".join(filters), **(extra_context or {})})

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """Allow only the filters that pages link to: `?hash__startswith=` would reveal a hash bit by bit."""
        filters = (getattr(item, "parameter_name", item) for item in self.list_filter)
        return lookup.removesuffix("__exact") in {*self.link_filters, *filters}

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return redirect(changelist_url(AuditEvent, **{self.event_filter: unquote(object_id)}))

    # ---- malformed requests, which no page of the admin sends ----

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> M | None:
        """Return the object, or None. Ignore an empty `?_to_field=`, for which Django's view would fail."""
        return super().get_object(request, object_id, from_field or None)

    def response_action(self, request: HttpRequest, queryset: QuerySet[Any], *args: Any) -> Any:
        """Run an action on the selected objects. Return 400 if an id is malformed: Django's query would fail."""
        try:
            for object_id in request.POST.getlist(helpers.ACTION_CHECKBOX_NAME):
                self.opts.pk.clean(object_id, None)
        except ValidationError as error:
            raise SuspiciousOperation(error) from None
        return super().response_action(request, queryset, *args)

    # ---- concurrent changes ----

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        if "_saveasnew" in request.POST:  # Django accepts it although no page has this button
            raise SuspiciousOperation("_saveasnew")
        view = super().changeform_view
        return self._run(request, object_id, lambda: view(request, object_id, form_url, extra_context))

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None) -> Any:
        view = super().delete_view
        return self._run(request, object_id, lambda: view(request, object_id, extra_context))

    def _run(self, request: HttpRequest, object_id: str | None, view: Callable[[], Any]) -> Any:
        """Run a view. If it changes an object, lock the object before the view validates the form.

        Another request can take a unique value, or start to use a tier, between validation and saving. Then validate
        again, which shows the error in the form.
        """
        if request.method != "POST":
            return view()
        try:
            return self._run_locked(request, object_id, view)
        except (IntegrityError, ValidationError):
            return self._run_locked(request, object_id, view)

    @transaction.atomic
    def _run_locked(self, request: HttpRequest, object_id: str | None, view: Callable[[], Any]) -> Any:
        if object_id is not None and (obj := self.get_object(request, unquote(object_id))):
            self.lock(request, obj)
        return view()

    def lock(self, request: HttpRequest, obj: M) -> None:
        """Lock the object's row until the transaction ends."""
        self.model._default_manager.select_for_update(no_key=True).filter(pk=obj.pk).first()

    # No rows of Django's `LogEntry`.

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any: ...

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any: ...

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any: ...

    def page(self, request: HttpRequest, template: str, **context: Any) -> HttpResponse:
        """Render `admin/<template>`, a page for this model that Django does not have."""
        context = {**self.admin_site.each_context(request), "opts": self.opts, **context}
        return TemplateResponse(request, f"admin/{template}", context)

    # ---- pages that confirm a change of one object ----

    def get_to_change(self, request: HttpRequest, object_id: str) -> M:
        """Return the object. Raise `Http404` if it doesn't exist, and `PermissionDenied` if it can't be changed."""
        obj = self.get_object(request, unquote(object_id))
        if obj is None:
            raise Http404
        if not self.has_change_permission(request, obj):
            raise PermissionDenied
        return obj

    def confirm(self, request: HttpRequest, obj: Model, form: forms.Form | None = None, **context: Any) -> HttpResponse:
        """Render the page that describes the change and asks for confirmation. `is_dangerous` makes its button red."""
        return self.page(request, "confirm.html", form=form, opts=obj._meta, original=obj, **context)

    def redirect_to(self, request: HttpRequest, obj: M, message: str) -> HttpResponse:
        messages.success(request, message)
        return redirect(change_url(obj))


def changes_in(form: forms.ModelForm[Any]) -> dict[str, list[Any]]:
    """Return what the form changed, as `{field: [before, after]}`, without passwords and secrets."""
    changes = {}
    for name in form.changed_data:
        if "password" not in name and "secret" not in name:
            before, value = form.get_initial_for_field(form.fields[name], name), form.cleaned_data[name]
            after = value if isinstance(value, QuerySet) else getattr(form.instance, name)
            changes[name] = [_as_json(before), _as_json(after)]
    return {name: change for name, change in changes.items() if change[0] != change[1]}


def _as_json(value: Any) -> Any:
    if isinstance(value, QuerySet | list):
        return [str(item) for item in value]
    return value.pk if isinstance(value, Model) else value


class AuditedAdmin(OperatorsAdmin[M]):
    """Writes an audit event when one of Django's forms saves or deletes an object, in the transaction of the view.

    For changes without a method of the model that writes the event.
    """

    created_action: Action
    changed_action: Action
    deleted_action: Action

    def save_model(self, request: HttpRequest, obj: M, form: Any, change: bool) -> None:
        """Save only the fields that the form changed. Another request may have changed the others meanwhile."""
        if not change:
            super().save_model(request, obj, form, change)
        elif columns := {field.name for field in self.opts.concrete_fields}.intersection(form.changed_data):
            obj.save(update_fields=columns)
        changes = changes_in(form)
        if changes or not change:
            self.record(request, self.changed_action if change else self.created_action, obj, changes=changes)

    def delete_model(self, request: HttpRequest, obj: M) -> None:
        self.record(request, self.deleted_action, obj)
        super().delete_model(request, obj)

    def record(self, request: HttpRequest, action: Action, obj: M, **details: Any) -> None:
        """Write the event. Raise `NotAllowed` if the operator has lost access to the admin since the request began."""
        actor = Actor.of(request, Via.ADMIN)
        actor.require_operator()
        AuditEvent.objects.record(action, actor, **self.event_fields(obj), **details)

    def event_fields(self, obj: M) -> dict[str, Any]:
        """Return the fields of `AuditEvent` that identify the object."""
        return {"subject": obj.pk}
