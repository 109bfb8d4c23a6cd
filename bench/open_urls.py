from typing import Any

from django.utils.functional import cached_property
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from onehorizon.urls import urlpatterns  # noqa: F401, so that finding the view takes as long
from workspaces import api_urls
from workspaces.models import Workspace
from workspaces.serializers import task_query
from workspaces.task_pages import task_page
from workspaces.viewsets import TaskViewSet


class OpenTaskViewSet(TaskViewSet):
    authentication_classes: list[Any] = []
    permission_classes = [AllowAny]
    throttle_classes: list[Any] = []
    found: dict[str, Workspace] = {}

    @cached_property
    def workspace(self) -> Workspace:
        if not self.found:
            self.found["bench"] = Workspace.objects.get(slug="bench")
        return self.found["bench"]

    def list(self, request: Request, workspace_id: str) -> Response:
        tasks, next_cursor = task_page(self.workspace.pk, None, **task_query(request.META["QUERY_STRING"]))
        return Response({"tasks": tasks, "nextCursor": next_cursor})


(tasks,) = (each for each in api_urls.urlpatterns if str(each.pattern) == "workspaces/<str:workspace_id>/tasks")
tasks.callback = OpenTaskViewSet.as_view({"get": "list"})
