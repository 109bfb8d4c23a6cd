"""Who may see the pages, and of which workspace."""

from typing import Any, cast

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.mixins import AccessMixin, LoginRequiredMixin
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.views import View

from apikeys.models import ApiKeyQuerySet, StoredSecret, StoredSecretQuerySet
from workspaces.access import resolve_workspace
from workspaces.models import Actor, NoWorkspaceChosen, User, Via, Workspace


class CurrentWorkspaceView(LoginRequiredMixin, View):
    """Redirects from the short URL to the keys of the current workspace."""

    def get(self, request: HttpRequest) -> HttpResponse:
        try:
            workspace = cast(User, request.user).current_workspace()
        except NoWorkspaceChosen:
            return redirect("workspaces")
        return redirect("api-keys", workspace.pk)


class ManagesKeysMixin(AccessMixin):
    """Requires that the user can manage the workspace's keys: members get 403, outsiders 404.

    The role is re-read on every request, so a role change takes effect immediately, and again in the transaction of a
    change (`Workspace.require_key_manager`).
    """

    request: HttpRequest
    kwargs: dict[str, Any]
    workspace: Workspace

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not request.user.is_authenticated:
            return self.handle_no_permission()
        user = request.user
        self.workspace = resolve_workspace(user, kwargs["workspace_id"])
        if not self.workspace.can_manage_keys(user):
            return render(request, "apikeys/managers_only.html", {"workspace": self.workspace}, status=403)
        return super().dispatch(request, *args, **kwargs)  # type: ignore[misc, no-any-return]  # the view's

    @property
    def keys(self) -> ApiKeyQuerySet:
        return self.workspace.api_keys.with_users().with_secrets().with_marks()

    @property
    def workspace_secrets(self) -> StoredSecretQuerySet:
        return StoredSecret.objects.filter(workspace=self.workspace).select_related("api_key")

    @property
    def actor(self) -> Actor:
        return Actor.of(self.request, Via.PAGE)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(  # type: ignore[misc, no-any-return]  # the view's
            workspace=self.workspace, active_limit=settings.APIKEYS_MAX_ACTIVE, **kwargs
        )

    def changed(self) -> set[str]:
        """Return the tags of the messages. A tag names what a change was confirmed of, which the page highlights."""
        return {message.extra_tags for message in messages.get_messages(self.request) if message.extra_tags}
