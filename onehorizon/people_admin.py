"""People, for operators. Every change writes its audit event in the same transaction."""

from typing import Any, cast

from django import forms
from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.contrib.auth import admin as auth_admin
from django.contrib.auth.forms import AdminUserCreationForm
from django.db import transaction
from django.db.models import ManyToManyField
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from apikeys.models import ApiKey
from core.admin import change_url, changelist_url, link
from onehorizon.quota_admin import QuotaAdmin
from workspaces.forms import SetPasswordForm
from workspaces.models import Action, Actor, User, Via
from workspaces.operators_admin import ChangeForm


class AddUserForm(AdminUserCreationForm[User]):
    class Meta:
        model = User
        fields = ("email", "name")


@admin.register(User)
class UserAdmin(QuotaAdmin[User], auth_admin.UserAdmin[User]):
    list_display = ("email", "name", "is_active", "is_staff", "last_login", "created_at")
    list_filter = ("is_active", "is_staff")
    search_fields = ("^email", "^name", "id__exact")
    search_help_text = "Start of an email or a name, or a user ID"
    created_action = Action.USER_CREATED
    changed_action = Action.USER_CHANGED
    ordering = ("email",)
    form = ChangeForm
    add_form = AddUserForm
    add_fieldsets = ((None, {"fields": ("email", "name", "usable_password", "password1", "password2")}),)
    fieldsets = (
        (None, {"fields": ("email", "name", "is_active")}),
        ("Workspaces and keys", {"fields": ("in_workspaces", "keys_created")}),
        ("Quota of OAuth tokens", {"fields": ("quota_now",)}),
        ("Admin access", {"fields": ("is_staff", "groups")}),
        ("Details", {"fields": ("id", "created_at", "last_login")}),
    )
    readonly_fields = ("in_workspaces", "keys_created", "quota_now", "id", "created_at", "last_login")
    filter_horizontal = ()
    change_password_form = SetPasswordForm
    formfield_overrides = {ManyToManyField: {"widget": forms.CheckboxSelectMultiple}}

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        is_allowed = obj is None or obj.can_be_changed_by(cast(User, request.user))
        return super().has_change_permission(request, obj) and is_allowed

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return False

    def lock(self, request: HttpRequest, obj: User) -> None:
        """Lock the rows of the person and of the operator, whose access is checked before the change is saved.

        In the order of their ids, so that two operators who change each other don't wait for each other.
        """
        people = User.objects.select_for_update(no_key=True).filter(pk__in=[obj.pk, request.user.pk])
        list(people.order_by("pk").values("pk"))

    @admin.display(description="workspaces")
    def in_workspaces(self, user: User) -> SafeString | str:
        memberships = user.memberships.select_related("workspace")
        rows = [(change_url(item.workspace), item.workspace, item.role) for item in memberships]
        return format_html_join(", ", '<a href="{}">{}</a> as {}', rows) or "None"

    @admin.display(description="keys")
    def keys_created(self, user: User) -> SafeString:
        return link(
            changelist_url(ApiKey, created_by=user.pk),
            "Keys this person created. They keep working if the person leaves.",
        )

    @transaction.atomic
    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:
        """Set or disable the password. Without one the user's access ends; a new one revokes tokens by itself."""
        if request.method == "POST" and (person := self.get_object(request, unquote(id))):
            self.lock(request, person)
        response = super().user_change_password(request, id, form_url)
        if request.method == "POST" and response.status_code == 302:
            user = User.objects.get(pk=unquote(id))
            self.record(request, Action.USER_PASSWORD_SET, user)
            if not user.has_usable_password():
                user.end_access(by=Actor.of(request, Via.ADMIN))
        return response

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.end_access_view)
        return [path("<path:object_id>/end-access/", view, name="workspaces_user_end_access"), *super().get_urls()]

    def end_access_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        user = self.get_to_change(request, object_id)
        if request.method != "POST":
            title = f"End all sessions and tokens of {user}?"
            message = (
                "This person has to sign in again in every browser, and to authorize applications and terminals again. "
                "API keys keep working."
            )
            verb = "End sessions and tokens"
            return self.confirm(request, user, title=title, message=message, verb=verb, is_dangerous=True)
        with transaction.atomic():
            self.lock(request, user)
            user.end_access(by=Actor.of(request, Via.ADMIN))
        return self.redirect_to(request, user, f"All sessions and tokens of {user} are ended.")
