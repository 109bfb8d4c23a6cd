"""The members of a workspace, on the workspace's page in the admin."""

from typing import Any, cast

from django import forms
from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.core.exceptions import ValidationError
from django.core.paginator import Page, Paginator
from django.db.models import QuerySet
from django.forms.models import BaseInlineFormSet
from django.forms.utils import ErrorList
from django.http import HttpRequest
from django.urls import ResolverMatch
from django.utils.safestring import SafeString

from core.admin import PlainFieldsMixin, change_url, link
from workspaces.models import LastOwner, Membership, Role, User, Workspace
from workspaces.operators_admin import ChangeForm

MEMBERS_PER_PAGE = 100  # Django rejects a form with more than 1,000 fields


class PersonLink(forms.Widget):
    """Shows the person of a membership, who can't be changed."""

    def __init__(self, person: User) -> None:
        super().__init__()
        self.person = person

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> SafeString:
        return link(change_url(self.person), self.person)


class MembershipForm(ChangeForm):
    """A member's role. The person is chosen when the membership is created and can't be changed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        role = self.fields["role"].widget
        if self.instance._state.adding:
            role.attrs["aria-label"] = "Role of the new member"
        else:
            role.attrs["aria-label"] = f"Role of {self.instance.user}"
            field = self.fields["user"]
            field.disabled, field.show_hidden_initial = True, False
            field.widget = PersonLink(self.instance.user)

    def clean(self) -> dict[str, Any]:
        """Check that a new member is not one already: Django doesn't validate this constraint in an inline."""
        cleaned = super().clean()
        user, workspace = cleaned.get("user"), self.instance.workspace
        if self.instance._state.adding and workspace.memberships.filter(user=user).exists():
            self.add_error("user", "This person is in the workspace already.")
        return cleaned


class MembershipFormSet(BaseInlineFormSet[Membership, Workspace, forms.ModelForm[Membership]]):
    """The members of a workspace, which keeps an owner. The view has locked the workspace."""

    OUTDATED = (
        "The members have changed since you opened this page. These are the current ones: make your changes again."
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Ignore what was sent if it is about a membership that is gone, and show the current members."""
        super().__init__(*args, **kwargs)
        self.is_outdated = self.is_bound and not self._sent_ids() <= {item.pk for item in self.get_queryset()}
        if self.is_outdated:
            self.is_bound = False
            del self.management_form  # the cached one is that of the data

    def add_fields(self, form: forms.ModelForm[Membership], index: int | None) -> None:
        """Label the checkbox that removes a member."""
        super().add_fields(form, index)
        if not form.instance._state.adding and "DELETE" in form.fields:
            form.fields["DELETE"].widget.attrs["aria-label"] = f"Remove {form.instance.user}"

    def _sent_ids(self) -> set[str]:
        count = min(self.initial_form_count(), self.total_form_count())
        return {self.data.get(f"{self.add_prefix(index)}-id", "") for index in range(count)}

    def non_form_errors(self) -> ErrorList:
        return ErrorList([self.OUTDATED]) if self.is_outdated else super().non_form_errors()

    def clean(self) -> None:
        super().clean()
        if any(self.errors):
            return
        remaining = [form for form in self.forms if form not in self.deleted_forms]
        if any(form.has_changed() and form.cleaned_data.get("role") == Role.OWNER for form in remaining):
            return
        changed = [form.instance.pk for form in self.forms if form in self.deleted_forms or form.has_changed()]
        owners = Membership.objects.filter(workspace=self.instance, role=Role.OWNER)
        if not owners.exclude(pk__in=changed).exists():
            raise ValidationError(str(LastOwner()))


class MembershipInline(PlainFieldsMixin, admin.TabularInline[Membership, Workspace]):
    model = Membership
    with_plus_sign = ("user",)
    form = MembershipForm
    formset = MembershipFormSet
    fields = ("user", "role", "created_at")
    readonly_fields = ("created_at",)
    autocomplete_fields = ("user",)
    verbose_name = "member"
    verbose_name_plural = "members"
    extra = 0

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Name the autocomplete: Select2 copies only the title of the select that it replaces."""
        formfield = super().formfield_for_foreignkey(db_field, request, **kwargs)
        if formfield is not None and db_field.name == "user":
            formfield.widget.attrs["title"] = "Person"
        return formfield

    def get_queryset(self, request: HttpRequest) -> QuerySet[Membership]:
        """Return the members of the page `?members=` of the workspace's members. The form is sent to the same URL."""
        members = super().get_queryset(request).select_related("user", "workspace")
        workspace_id = unquote(cast(ResolverMatch, request.resolver_match).kwargs["object_id"])
        page = members_page(request, Membership.objects.filter(workspace=workspace_id).values_list("pk", flat=True))
        return members.filter(pk__in=page.object_list)


def members_page(request: HttpRequest, members: QuerySet[Membership, Any]) -> Page[Any]:
    return Paginator(members.order_by("pk"), MEMBERS_PER_PAGE).get_page(request.GET.get("members"))
