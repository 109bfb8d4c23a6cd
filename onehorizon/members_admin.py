"""The members of a workspace, on the workspace's page in the admin."""

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.forms.models import BaseInlineFormSet
from django.http import HttpRequest

from workspaces.models import LastOwner, Membership, Role, Workspace


class MembershipForm(forms.ModelForm[Membership]):
    """A member's role. The person is chosen when the membership is created and can't be changed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.instance._state.adding:
            field = self.fields["user"]
            field.disabled = True
            field.widget = forms.Select(choices=[(self.instance.user_id, str(self.instance.user))])


class MembershipFormSet(BaseInlineFormSet[Membership, Workspace, forms.ModelForm[Membership]]):
    """Requires an owner among the members. Locks the workspace, so that it has one when the members are saved."""

    def clean(self) -> None:
        super().clean()
        if any(self.errors):
            return
        remaining = [form for form in self.forms if form not in self.deleted_forms]
        if any(form.has_changed() and form.cleaned_data.get("role") == Role.OWNER for form in remaining):
            return
        Workspace.objects.lock(self.instance.pk)
        changed = [form.instance.pk for form in self.forms if form in self.deleted_forms or form.has_changed()]
        owners = Membership.objects.filter(workspace=self.instance, role=Role.OWNER)
        if not owners.exclude(pk__in=changed).exists():
            raise ValidationError(str(LastOwner()))


class MembershipInline(admin.TabularInline[Membership, Workspace]):
    model = Membership
    form = MembershipForm
    formset = MembershipFormSet
    fields = ("user", "role", "created_at")
    readonly_fields = ("created_at",)
    autocomplete_fields = ("user",)
    verbose_name_plural = "members"
    extra = 0

    def get_queryset(self, request: HttpRequest) -> QuerySet[Membership]:
        return super().get_queryset(request).select_related("user", "workspace")
