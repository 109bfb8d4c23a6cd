"""The URLconf with the list of tasks open to everyone."""

from functools import cache
from typing import Any

from django.utils.functional import cached_property
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from onehorizon.urls import urlpatterns  # noqa: F401, so that resolving the URL takes as long
from workspaces import api_urls
from workspaces.models import Workspace
from workspaces.task_pages import task_page
from workspaces.viewsets import TaskViewSet


@cache
def bench_workspace() -> Workspace:
    return Workspace.objects.get(slug="bench")


class OpenTaskViewSet(TaskViewSet):
    authentication_classes: list[Any] = []
    permission_classes = [AllowAny]
    throttle_classes: list[Any] = []

    @cached_property
    def workspace(self) -> Workspace:
        return bench_workspace()

    def list(self, request: Request, workspace_id: str) -> Response:
        tasks, next_cursor = task_page(self.workspace.pk, None, **self.query)
        return Response({"tasks": tasks, "nextCursor": next_cursor})


(tasks,) = (item for item in api_urls.urlpatterns if str(item.pattern) == "workspaces/<str:workspace_id>/tasks")
tasks.callback = OpenTaskViewSet.as_view({"get": "list"})
