"""The quota of a workspace or a person, on its page in the admin."""

from typing import Any, TypeVar

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.urls import path

from workspaces import quota
from workspaces.models import Actor, User, Via, Workspace
from workspaces.operators_admin import AuditedAdmin

H = TypeVar("H", Workspace, User)


class QuotaAdmin(AuditedAdmin[H]):
    """Adds the read-only field `quota_now`, and the page that clears the quota."""

    @admin.display(description="current use")
    def quota_now(self, holder: H) -> str:
        return render_to_string("admin/quota.html", {"quota": quota.status_of(holder)})

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.clear_quota_view)
        name = f"workspaces_{self.opts.model_name}_clear_quota"
        return [path("<path:object_id>/clear-quota/", view, name=name), *super().get_urls()]

    def clear_quota_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        holder = self.get_to_change(request, object_id)
        if request.method != "POST":
            title = f"Clear the quota of {holder}?"
            message = "The full quota will be available again immediately."
            return self.confirm(request, holder, title=title, message=message, verb="Clear quota")
        quota.clear(holder, by=Actor.of(request, Via.ADMIN))
        return self.redirect_to(request, holder, f"The quota of {holder} is cleared.")
