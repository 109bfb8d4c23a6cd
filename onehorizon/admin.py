"""Workspaces, people and tiers, for operators. Every change writes its audit event in the same transaction."""

from typing import Any, cast

from django import forms
from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.contrib.auth import admin as auth_admin
from django.contrib.auth.forms import AdminUserCreationForm
from django.contrib.auth.models import Group
from django.db import transaction
from django.db.models import Count, Field, ManyToManyField, OuterRef, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.urls import path
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from apikeys.forms import ReasonForm
from apikeys.models import ApiKey
from core.admin import change_url, changelist_url, link
from onehorizon.members_admin import MembershipInline
from workspaces import quota
from workspaces.admin import AuditedAdmin, ChangeForm
from workspaces.forms import SetPasswordForm
from workspaces.models import Action, Actor, AuditEvent, Membership, Role, Tier, User, Via, Workspace

admin.site.unregister(Group)  # migrations define the groups


# ---- workspaces ----


@admin.register(Workspace)
class WorkspaceAdmin(AuditedAdmin[Workspace]):
    list_display = ("name", "slug", "tier_name", "active_keys", "suspended_at", "created_at", "links")
    search_fields = ("^slug", "^name", "id__exact")
    search_help_text = "Search by the start of the name or slug, or by id."
    prepopulated_fields = {"slug": ("name",)}
    readonly_fields = ("id", "created_at", "suspended_at", "suspend_reason", "active_keys", "links", "quota_now")
    inlines = (MembershipInline,)
    event_filter = "workspace"
    changed_action = Action.WORKSPACE_CHANGED

    def event_fields(self, obj: Workspace) -> dict[str, Any]:
        return {"workspace_id": obj.pk}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Workspace]:
        keys = ApiKey.objects.active().filter(workspace=OuterRef("pk")).order_by().values("workspace")
        count = Subquery(keys.annotate(count=Count("pk")).values("count"))
        return super().get_queryset(request).select_related("tier").annotate(active_keys=Coalesce(count, Value(0)))

    def get_fieldsets(self, request: HttpRequest, obj: Workspace | None = None) -> Any:
        if obj is None:
            return [(None, {"fields": ["name", "slug", "owner", "tier"]})]
        suspension = ["suspended_at", "suspend_reason"] if obj.suspended_at else []
        return [
            (None, {"fields": ["name", "slug", *suspension, "active_keys", "links", "id", "created_at"]}),
            ("Quota", {"fields": ["tier", "quota_now"]}),
        ]

    def get_form(self, request: HttpRequest, obj: Workspace | None = None, change: bool = False, **kwargs: Any) -> Any:
        """Add the owner to the form of a new workspace, with the widget that chooses members."""
        if obj is not None:
            return super().get_form(request, obj, change, **kwargs)
        form = super().get_form(request, obj, change, **kwargs | {"fields": ("name", "slug", "tier")})
        members = MembershipInline(Workspace, self.admin_site)
        owner = members.formfield_for_dbfield(
            cast("Field[Any, Any]", Membership._meta.get_field("user")),
            request,
            label="Owner",
            help_text="The first member, who can manage API keys. Use the plus sign for a person without an account.",
            error_messages={
                "required": "Choose an owner. If the person has no account yet, add one with the plus sign.",
                "invalid_choice": "This person has no account any more. Choose someone else.",
            },
        )
        form.base_fields["owner"] = cast(forms.Field, owner)
        return form

    def get_inlines(self, request: HttpRequest, obj: Workspace | None) -> Any:
        return () if obj is None else super().get_inlines(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Workspace | None = None) -> bool:
        return False

    @admin.display(description="tier")
    def tier_name(self, workspace: Workspace) -> str:
        return str(workspace.tier_id)

    @admin.display(description="active keys")
    def active_keys(self, workspace: Workspace) -> int:
        return cast(int, workspace.active_keys)  # type: ignore[attr-defined]  # annotated

    @admin.display(description="links")
    def links(self, workspace: Workspace) -> SafeString:
        keys, events = (changelist_url(model, workspace=workspace.pk) for model in (ApiKey, AuditEvent))
        return format_html_join(" · ", '<a href="{}">{}</a>', [(keys, "Keys"), (events, "Events")])

    @admin.display(description="current use")
    def quota_now(self, workspace: Workspace) -> str:
        return render_to_string("admin/quota.html", {"quota": quota.status(workspace.pk, workspace.tier)})

    def save_model(self, request: HttpRequest, obj: Workspace, form: Any, change: bool) -> None:
        """Create a workspace and change its tier through the model, which writes the events; save the rest as usual."""
        actor = Actor.of(request, Via.ADMIN)
        if not change:
            obj.pk = Workspace.objects.create_with_owner(**form.cleaned_data, by=actor).pk
            return
        if "tier" in form.changed_data:
            form.changed_data.remove("tier")
            obj.change_tier(form.cleaned_data["tier"], by=actor)
        super().save_model(request, obj, form, change)

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        """Save through the models' methods, new owners first, so that the workspace always has an owner."""
        formset.save(commit=False)
        actor = Actor.of(request, Via.ADMIN)
        for membership in formset.new_objects:
            membership.workspace.add_member(membership.user, Role(membership.role), by=actor)
        changed = [membership for membership, _ in formset.changed_objects]
        for membership in sorted(changed, key=lambda membership: membership.role != Role.OWNER):
            membership.change_role(Role(membership.role), by=actor)
        for membership in formset.deleted_objects:
            membership.leave(by=actor)

    # ---- suspend, resume, clear the quota ----

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view
        return [
            path("<path:object_id>/suspend/", view(self.suspend_view), name="workspaces_workspace_suspend"),
            path("<path:object_id>/resume/", view(self.resume_view), name="workspaces_workspace_resume"),
            path("<path:object_id>/clear-quota/", view(self.clear_quota_view), name="workspaces_workspace_clear_quota"),
            *super().get_urls(),
        ]

    def suspend_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        workspace = self.get_to_change(request, object_id)
        form = ReasonForm(request.POST if request.method == "POST" else None)
        if not form.is_valid():
            message = "Requests with its keys will fail immediately. Its members see the reason on the API keys page."
            title = f"Suspend {workspace}?"
            return self.confirm(request, workspace, form, title=title, message=message, verb="Suspend")
        workspace.suspend(form.cleaned_data["reason"], by=Actor.of(request, Via.ADMIN))
        return self.redirect_to(request, workspace, f"{workspace} is suspended. Its keys are rejected.")

    def resume_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        workspace = self.get_to_change(request, object_id)
        form = ReasonForm(request.POST if request.method == "POST" else None)
        if not form.is_valid():
            message = "Its keys will work again immediately."
            title = f"Resume {workspace}?"
            return self.confirm(request, workspace, form, title=title, message=message, verb="Resume")
        workspace.resume(form.cleaned_data["reason"], by=Actor.of(request, Via.ADMIN))
        return self.redirect_to(request, workspace, f"{workspace} is resumed. Its keys work again.")

    def clear_quota_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        workspace = self.get_to_change(request, object_id)
        if request.method != "POST":
            title = f"Clear the quota of {workspace}?"
            message = "Its keys will have the full quota again immediately."
            return self.confirm(request, workspace, title=title, message=message, verb="Clear quota")
        quota.clear(workspace, by=Actor.of(request, Via.ADMIN))
        return self.redirect_to(request, workspace, f"The quota of {workspace} is cleared.")


# ---- people ----


class AddUserForm(AdminUserCreationForm[User]):
    class Meta:
        model = User
        fields = ("email", "name")


@admin.register(User)
class UserAdmin(AuditedAdmin[User], auth_admin.UserAdmin[User]):
    list_display = ("email", "name", "is_active", "is_staff", "last_login", "created_at")
    list_filter = ("is_active", "is_staff")
    search_fields = ("^email", "^name", "id__exact")
    search_help_text = "Search by the start of the email or name, or by id."
    created_action = Action.USER_CREATED
    changed_action = Action.USER_CHANGED
    ordering = ("email",)
    form = ChangeForm
    add_form = AddUserForm
    add_fieldsets = ((None, {"fields": ("email", "name", "usable_password", "password1", "password2")}),)
    fieldsets = (
        (None, {"fields": ("email", "name", "is_active")}),
        ("Workspaces and keys", {"fields": ("in_workspaces", "keys_created")}),
        ("Admin access", {"fields": ("is_staff", "groups")}),
        ("Details", {"fields": ("id", "created_at", "last_login")}),
    )
    readonly_fields = ("in_workspaces", "keys_created", "id", "created_at", "last_login")
    filter_horizontal = ()
    change_password_form = SetPasswordForm
    formfield_overrides = {ManyToManyField: {"widget": forms.CheckboxSelectMultiple}}

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """Allow only superusers to change a superuser, so that an operator can't take over that account."""
        is_protected = obj is not None and obj.is_superuser and not request.user.is_superuser
        return super().has_change_permission(request, obj) and not is_protected

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
            return self.confirm(request, user, title=title, message=message, verb="End sessions and tokens")
        user.end_access(by=Actor.of(request, Via.ADMIN))
        return self.redirect_to(request, user, f"All sessions and tokens of {user} are ended.")


# ---- tiers ----


@admin.register(Tier)
class TierAdmin(AuditedAdmin[Tier]):
    list_display = ("name", "requests", "seconds", "burst_requests", "burst_seconds")
    ordering = ("name",)
    changed_action = Action.TIER_CHANGED
    deleted_action = Action.TIER_DELETED

    def save_model(self, request: HttpRequest, obj: Tier, form: Any, change: bool) -> None:
        """Create a tier through the manager, which writes the event."""
        if change:
            super().save_model(request, obj, form, change)
        else:
            Tier.objects.create_tier(**form.cleaned_data, by=Actor.of(request, Via.ADMIN))

    def get_readonly_fields(self, request: HttpRequest, obj: Tier | None = None) -> tuple[str, ...]:
        return () if obj is None else ("name",)

    def has_delete_permission(self, request: HttpRequest, obj: Tier | None = None) -> bool:
        """Keep the default tier: new workspaces and people need it."""
        return super().has_delete_permission(request, obj) and (obj is None or obj.pk != Tier.DEFAULT)
