"""listTasks with the usual means of DRF. The path names no workspace, because only one has tasks."""

from functools import cache
from typing import Any

from django.utils.functional import cached_property
from knox.auth import TokenAuthentication
from rest_framework import serializers
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import SimpleRateThrottle
from rest_framework.views import APIView
from rest_framework_api_key.permissions import HasAPIKey, KeyParser

from workspaces.models import Task, TaskContributor, Workspace

FIELDS = {  # columns, with their names in the API
    "id": "taskId",
    "workspace_id": "workspaceId",
    "title": "title",
    "description": "description",
    "status": "status",
    "kind": "kind",
    "scope": "scope",
    "visibility": "visibility",
    "user_id": "userId",
    "created_at": "createdAt",
    "updated_at": "updatedAt",
    "completed_at": "completedAt",
}
LIMIT = 50


class TasksView(APIView):
    authentication_classes: list[Any] = []
    permission_classes: list[Any] = []

    @cached_property
    def tasks(self) -> Any:
        return Task.objects.filter(workspace=workspace(), visibility="team").order_by("-id")[: LIMIT + 1]


class ValuesView(TasksView):
    """Builds the JSON from `.values()`."""

    def get(self, request: Request) -> Response:
        rows = list(self.tasks.values(*FIELDS))
        contributors: dict[str, list[dict[str, str]]] = {row["id"]: [] for row in rows}
        for contributor in TaskContributor.objects.filter(task__in=contributors).values("task_id", "user_id", "type"):
            item = {"userId": contributor["user_id"], "type": contributor["type"]}
            contributors[contributor["task_id"]].append(item)
        tasks = [
            {name: row[column] for column, name in FIELDS.items()} | {"contributors": contributors[row["id"]]}
            for row in rows[:LIMIT]
        ]
        return Response({"tasks": tasks, "nextCursor": rows[LIMIT - 1]["id"] if len(rows) > LIMIT else None})


class ContributorSerializer(serializers.ModelSerializer[TaskContributor]):
    userId = serializers.CharField(source="user_id")

    class Meta:
        model = TaskContributor
        fields = ["userId", "type"]


class TaskSerializer(serializers.ModelSerializer[Task]):
    taskId = serializers.CharField(source="id")
    workspaceId = serializers.CharField(source="workspace_id")
    userId = serializers.CharField(source="user_id")
    createdAt = serializers.DateTimeField(source="created_at")
    updatedAt = serializers.DateTimeField(source="updated_at")
    completedAt = serializers.DateTimeField(source="completed_at")
    contributors = ContributorSerializer(many=True)

    class Meta:
        model = Task
        fields = [*FIELDS.values(), "contributors"]


class SerializerView(TasksView):
    """Builds the JSON with a `ModelSerializer`."""

    def get(self, request: Request) -> Response:
        tasks = list(self.tasks.prefetch_related("contributors"))
        next_cursor = tasks[LIMIT - 1].pk if len(tasks) > LIMIT else None
        return Response({"tasks": TaskSerializer(tasks[:LIMIT], many=True).data, "nextCursor": next_cursor})


class QuotaThrottle(SimpleRateThrottle):
    """The same limits as ours. Each limit has its own Redis key, which is read and then written back."""

    limit: tuple[int, int]

    def get_rate(self) -> str:
        return ""

    def parse_rate(self, rate: str | None) -> tuple[int, int]:
        return self.limit

    def get_cache_key(self, request: Request, view: object) -> str:
        ident = request.user.pk if request.auth else str(KeyParser().get(request))[:8]
        return f"throttle_{self.limit[0]}_{ident}"


class MainThrottle(QuotaThrottle):
    limit = (200, 900)


class BurstThrottle(QuotaThrottle):
    limit = (40, 60)


class ApiKeyView(ValuesView):
    """djangorestframework-api-key."""

    permission_classes = [HasAPIKey]


class ThrottledApiKeyView(ApiKeyView):
    throttle_classes = [MainThrottle, BurstThrottle]


class ThrottledKnoxView(ValuesView):
    authentication_classes = [TokenAuthentication]
    permission_classes = [IsAuthenticated]
    throttle_classes = [MainThrottle, BurstThrottle]


@cache
def workspace() -> str:
    """Return the id of the workspace with the tasks."""
    return Workspace.objects.get(slug="bench").pk
