from typing import Any

from django.db import transaction
from django.utils.functional import cached_property
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response

from onehorizon.api import ApiView, ApiViewSet
from workspaces.access import Scope, Scopes, resolve_workspace
from workspaces.ids import is_id
from workspaces.models import NoneChosen, Task, TaskQuerySet, Workspace
from workspaces.serializers import MemberSerializer, TaskSerializer, WorkspaceSerializer, task_query
from workspaces.task_pages import task_page


class WhoAmIView(ApiView):
    """The principal of the request: what it is, where it belongs, and what is left of its quota."""

    scopes = Scopes(read=None, write=None)

    def get(self, request: Request) -> Response:
        return Response(
            {
                "kind": self.principal.kind,
                **self.principal.describe(),
                "workspace": self._workspace(),
                "quota": self.principal.count_request().status.describe(),
            }
        )

    def _workspace(self) -> dict[str, Any] | None:
        try:
            return WorkspaceSerializer(self.principal.current_workspace()).data
        except NoneChosen:
            return None


class InWorkspaceViewSet(ApiViewSet):
    """For views below a workspace: `workspace` is the one that the address means, or the answer is 404."""

    scopes = Scopes(read=Scope.READ, write=Scope.WRITE)

    @cached_property
    def workspace(self) -> Workspace:
        return resolve_workspace(self.principal, self.kwargs["workspace_id"])


class WorkspaceViewSet(InWorkspaceViewSet):
    def list(self, request: Request) -> Response:
        return Response({"workspaces": WorkspaceSerializer(self.principal.reachable_workspaces(), many=True).data})

    def retrieve(self, request: Request, workspace_id: str) -> Response:
        return Response(WorkspaceSerializer(self.workspace).data)


class MemberViewSet(InWorkspaceViewSet):
    def list(self, request: Request, workspace_id: str) -> Response:
        members = self.workspace.memberships.select_related("user")
        return Response({"members": MemberSerializer(members, many=True).data})


class TaskViewSet(InWorkspaceViewSet):
    def get_queryset(self) -> TaskQuerySet:
        tasks: TaskQuerySet = self.workspace.tasks.visible_to(self.principal.user)
        return tasks.prefetch_related("contributors")

    def get_object(self, *, locked: bool = False) -> Task:
        task_id = self.kwargs["task_id"]
        if not is_id("tsk", task_id):
            raise Task.DoesNotExist
        tasks = self.get_queryset()
        return (tasks.select_for_update(no_key=True) if locked else tasks).get(pk=task_id)

    def list(self, request: Request, workspace_id: str) -> Response:
        query = task_query(request.META["QUERY_STRING"])
        user = self.principal.user
        tasks, next_cursor = task_page(self.workspace.pk, user.pk if user else None, **query)
        return Response({"tasks": tasks, "nextCursor": next_cursor})

    def create(self, request: Request, workspace_id: str) -> Response:
        serializer = TaskSerializer(data=request.data, context={"workspace": self.workspace})
        serializer.is_valid(raise_exception=True)
        serializer.save()
        return Response(serializer.data, status=status.HTTP_201_CREATED)

    def retrieve(self, request: Request, workspace_id: str, task_id: str) -> Response:
        return Response(TaskSerializer(self.get_object()).data)

    @transaction.atomic
    def partial_update(self, request: Request, workspace_id: str, task_id: str) -> Response:
        """Under the row's lock, so that what is checked is what is changed, whoever changes the task meanwhile."""
        task = self.get_object(locked=True)
        serializer = TaskSerializer(task, data=self.body, partial=True, context={"workspace": self.workspace})
        serializer.is_valid(raise_exception=True)
        serializer.save()
        return Response(serializer.data)

    def destroy(self, request: Request, workspace_id: str, task_id: str) -> Response:
        self.get_object().delete()
        return Response(status=status.HTTP_204_NO_CONTENT)
