"""Workspaces and tiers, for operators. Every change writes its audit event in the same transaction."""

from typing import Any, cast

from django import forms
from django.contrib import admin
from django.contrib.auth.models import Group
from django.db.models import Count, Field, OuterRef, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from apikeys.forms import ReasonForm
from apikeys.models import ApiKey, ApiKeyUsage, ApiKeyUsageQuerySet, Period
from apikeys.usage_admin import UsageMixin, busiest_keys
from core.admin import changelist_url
from onehorizon import people_admin  # noqa: F401, registers its admin
from onehorizon.members_admin import MembershipInline, members_page
from onehorizon.quota_admin import QuotaAdmin
from workspaces.models import Action, Actor, AuditEvent, Membership, Role, Tier, Via, Workspace
from workspaces.operators_admin import AuditedAdmin

admin.site.unregister(Group)  # migrations define the groups


# ---- workspaces ----


@admin.register(Workspace)
class WorkspaceAdmin(UsageMixin, QuotaAdmin[Workspace]):
    list_display = ("name", "slug", "tier_name", "active_keys", "suspended_at", "created_at", "links")
    search_fields = ("^slug", "^name", "id__exact")
    search_help_text = "Start of a name or a slug, or a workspace ID"
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

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Workspace | None = None,
    ) -> HttpResponse:
        if obj is not None:
            context["members"] = members_page(request, obj.memberships.all())
            context["keys"] = busiest_keys(self.usage_of(obj).in_period(Period.last_day()))
        return super().render_change_form(request, context, add, change, form_url, obj)

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

    def usage_of(self, obj: Workspace) -> ApiKeyUsageQuerySet:
        return ApiKeyUsage.objects.filter(workspace=obj)

    # ---- suspend and resume ----

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view
        return [
            path("<path:object_id>/suspend/", view(self.suspend_view), name="workspaces_workspace_suspend"),
            path("<path:object_id>/resume/", view(self.resume_view), name="workspaces_workspace_resume"),
            *super().get_urls(),
        ]

    def suspend_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        workspace = self.get_to_change(request, object_id)
        form = ReasonForm(request.POST if request.method == "POST" else None)
        if not form.is_valid():
            message = "Requests with its keys will fail immediately. Its members see the reason on the API keys page."
            title, verb = f"Suspend {workspace}?", "Suspend"
            return self.confirm(request, workspace, form, title=title, message=message, verb=verb, is_dangerous=True)
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
