from typing import Any, ClassVar

from django.db import transaction
from django.db.models import Prefetch, prefetch_related_objects
from django.utils.functional import cached_property
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response

from core.db import contention
from workspaces.access import Scopes, resolve_workspace
from workspaces.api import ApiView, ApiViewSet, created_response
from workspaces.ids import get_by_id
from workspaces.models import NoWorkspaceChosen, Task, TaskContributor, TaskQuerySet, Workspace
from workspaces.serializers import (
    AnyPrincipalSerializer,
    MemberListSerializer,
    NewTaskSerializer,
    TaskChangesSerializer,
    TaskListSerializer,
    TaskQuery,
    TaskSerializer,
    WorkspaceListSerializer,
    WorkspaceSerializer,
)
from workspaces.task_pages import task_page

TASK_BODY = {"x-codegen-request-body-name": "task"}


class WhoAmIView(ApiView):
    """The principal of the request, its current workspace, and its remaining quota."""

    scopes = Scopes(read=None, write=None)

    @extend_schema(
        operation_id="whoAmI",
        tags=["Me"],
        summary="Fetch the principal of the request",
        description="Returns the API key or the person that the request acts for, with the workspace of the id "
        "`current` and the remaining quota.",
        responses=AnyPrincipalSerializer,
    )
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
        except NoWorkspaceChosen:
            return None


class InWorkspaceViewSet(ApiViewSet):
    """Base class of views below `/workspaces/{workspaceId}`."""

    @cached_property
    def workspace(self) -> Workspace:
        """The workspace in the path. Raise `Workspace.DoesNotExist` (a 404) if the principal can't reach it."""
        return resolve_workspace(self.principal, self.kwargs["workspace_id"])


@extend_schema(tags=["Workspaces"])
class WorkspaceViewSet(InWorkspaceViewSet):
    @extend_schema(
        operation_id="listWorkspaces",
        summary="List workspaces",
        description="People get the workspaces that they are members of. API keys get only their own workspace.",
        responses=WorkspaceListSerializer,
    )
    def list(self, request: Request) -> Response:
        return Response(WorkspaceListSerializer({"workspaces": self.principal.reachable_workspaces()}).data)

    @extend_schema(
        operation_id="fetchWorkspace",
        summary="Fetch a workspace",
        description="A workspace that listWorkspaces doesn't return is a 404.",
        responses=WorkspaceSerializer,
    )
    def retrieve(self, request: Request, workspace_id: str) -> Response:
        return Response(WorkspaceSerializer(self.workspace).data)


@extend_schema(tags=["Workspaces"])
class MemberViewSet(InWorkspaceViewSet):
    @extend_schema(
        operation_id="listMembers",
        summary="List the members of a workspace",
        description="Returns all members. Tasks refer to them by their `userId`.",
        responses=MemberListSerializer,
    )
    def list(self, request: Request, workspace_id: str) -> Response:
        members = self.workspace.memberships.select_related("user")
        return Response(MemberListSerializer({"members": members}).data)


@extend_schema(tags=["Tasks"])
@extend_schema_view(
    list=extend_schema(
        operation_id="listTasks",
        summary="List tasks, newest first",
        description="People also see their own private tasks. API keys see no private tasks.",
        parameters=[TaskQuery],
        responses=TaskListSerializer,
    ),
    create=extend_schema(
        operation_id="createTask",
        summary="Create a task",
        description="Fields that are not sent get their default. Only `title` is required.",
        request=NewTaskSerializer,
        responses={201: TaskSerializer},
        extensions=TASK_BODY,
    ),
    retrieve=extend_schema(
        operation_id="fetchTask",
        summary="Fetch a task",
        description="A private task is a 404 for API keys, and for people other than its owner.",
        responses=TaskSerializer,
    ),
    partial_update=extend_schema(
        operation_id="updateTask",
        summary="Update a task",
        description="Updates the fields in the body. You can send a whole task back: read-only fields are ignored.",
        request=TaskChangesSerializer,
        responses=TaskSerializer,
        extensions=TASK_BODY,
    ),
    destroy=extend_schema(
        operation_id="deleteTask",
        summary="Delete a task",
        description="The task can't be restored. Deleting it again is a 404.",
        responses={204: None},
    ),
)
class TaskViewSet(InWorkspaceViewSet):
    query_serializers: ClassVar = {"list": TaskQuery}

    def get_queryset(self) -> TaskQuerySet:
        tasks: TaskQuerySet = self.workspace.tasks.visible_to(self.principal.user)
        return tasks.prefetch_related(self.contributors)

    @property
    def contributors(self) -> "Prefetch[Any, Any, Any]":
        return Prefetch("contributors", TaskContributor.objects.filter(workspace=self.workspace))

    def as_json(self, task: Task) -> Any:
        prefetch_related_objects([task], self.contributors)
        return TaskSerializer(task).data

    def get_object(self, *, lock: bool = False) -> Task:
        task_id = self.kwargs["task_id"]
        tasks = self.get_queryset()
        contention.about_to_read("tasks")
        if lock:
            contention.about_to_lock(contention.row(task_id))
            tasks = tasks.select_for_update(no_key=True)
        return get_by_id(tasks, task_id)

    def list(self, request: Request, workspace_id: str) -> Response:
        user = self.principal.user
        tasks, next_cursor = task_page(self.workspace.pk, user.pk if user else None, **self.query)
        return Response({"tasks": tasks, "nextCursor": next_cursor})

    def create(self, request: Request, workspace_id: str) -> Response:
        serializer = NewTaskSerializer(data=self.body, context={"workspace": self.workspace})
        serializer.is_valid(raise_exception=True)
        task = serializer.save()
        return created_response(self.as_json(task), "fetch-task", task.workspace_id, task.pk)

    def retrieve(self, request: Request, workspace_id: str, task_id: str) -> Response:
        return Response(self.as_json(self.get_object()))

    @transaction.atomic
    def partial_update(self, request: Request, workspace_id: str, task_id: str) -> Response:
        """Lock the row first, so that a concurrent request can't change the task between validation and saving."""
        task = self.get_object(lock=True)
        serializer = TaskChangesSerializer(task, data=self.body, context={"workspace": self.workspace})
        serializer.is_valid(raise_exception=True)
        return Response(self.as_json(serializer.save()))

    @transaction.atomic
    def destroy(self, request: Request, workspace_id: str, task_id: str) -> Response:
        self.get_object(lock=True).delete()  # locked, because it may become private meanwhile
        return Response(status=status.HTTP_204_NO_CONTENT)
