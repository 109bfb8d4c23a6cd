"""What the operations of the REST API are: names, bodies, answers, refusals, and where an answer leads.

What a serializer says of itself drf-spectacular reads from it; what no serializer knows stands here.
"""

from typing import Any, NamedTuple

from drf_spectacular.utils import OpenApiParameter, PolymorphicProxySerializer, extend_schema_field
from rest_framework import serializers

from apikeys.serializers import ApiKeyQuery, ApiKeySerializer, NewApiKeySerializer
from workspaces.serializers import MemberSerializer, TaskQuery, TaskSerializer, WorkspaceSerializer

# ---- bodies that no view has a serializer for ----


class TaskListSerializer(serializers.Serializer[Any]):
    tasks = TaskSerializer(many=True)
    nextCursor = serializers.CharField(allow_null=True, help_text="Send it as `cursor` for the next page; null: none.")


class WorkspaceListSerializer(serializers.Serializer[Any]):
    workspaces = WorkspaceSerializer(many=True)


class MemberListSerializer(serializers.Serializer[Any]):
    members = MemberSerializer(many=True)


class ApiKeyListSerializer(serializers.Serializer[Any]):
    apiKeys = ApiKeySerializer(many=True)
    activeCount = serializers.IntegerField()
    activeLimit = serializers.IntegerField()


class CreatedApiKeySerializer(ApiKeySerializer):
    secret = serializers.CharField(read_only=True, help_text="The bearer string, in this answer and never again.")


class RepeatedApiKeySerializer(ApiKeySerializer):
    notice = serializers.CharField(read_only=True, help_text="Why there is no `secret`.")


class QuotaLimitSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    requests = serializers.IntegerField(help_text="Admitted in any span of `seconds`, at most.")
    seconds = serializers.IntegerField()
    remaining = serializers.IntegerField()
    resetAfter = serializers.IntegerField(help_text="Seconds until `remaining` grows.")


class QuotaSerializer(serializers.Serializer[Any]):
    tier = serializers.CharField()
    limits = QuotaLimitSerializer(many=True)


@extend_schema_field({"type": "string", "const": "apiKey"})
class ApiKeyKindField(serializers.CharField):
    pass


@extend_schema_field({"type": "string", "const": "user"})
class UserKindField(serializers.CharField):
    pass


class PrincipalSerializer(serializers.Serializer[Any]):
    workspace = WorkspaceSerializer(allow_null=True, help_text="What `current` means; null: none was chosen.")
    quota = QuotaSerializer()


class ApiKeyPrincipalSerializer(PrincipalSerializer):
    kind = ApiKeyKindField()
    apiKeyId = serializers.CharField()
    maskedKey = serializers.CharField()
    description = serializers.CharField()


class UserPrincipalSerializer(PrincipalSerializer):
    kind = UserKindField()
    userId = serializers.CharField()
    name = serializers.CharField(required=False, help_text="With the scope `profile`.")
    email = serializers.CharField(required=False, help_text="With the scope `email`.")
    role = serializers.CharField(allow_null=True, help_text="In `workspace`: owner, admin or member.")
    scopes = serializers.ListField(child=serializers.CharField())


PRINCIPAL = PolymorphicProxySerializer(
    component_name="Principal",
    serializers={"apiKey": ApiKeyPrincipalSerializer, "user": UserPrincipalSerializer},
    resource_type_field_name="kind",
)

# ---- operations ----


class Operation(NamedTuple):
    """`answers`: by status, None for no content. `refusals`: those besides what every operation may answer."""

    id: str
    tag: str
    summary: str
    answers: dict[int, Any]
    refusals: tuple[int, ...] = ()
    body: Any = None
    body_name: str = ""
    query: Any = None
    parameters: tuple[OpenApiParameter, ...] = ()
    description: str = ""
    answer_headers: dict[int, tuple[str, ...]] = {}


IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    {"type": "string", "pattern": r"^[\x21-\x7e]{1,255}$"},
    OpenApiParameter.HEADER,
    description="Makes the request safe to repeat: a second one with the same value and body makes no second key.",
)
ALL = OpenApiParameter("all", bool, description="Taken, and changes nothing.")
PATH_PARAMETERS = {
    "workspaceId": "`current`, or an id. For a key, `current` is its workspace; for a person, the one they chose last.",
    "taskId": "An id as `taskId` has it.",
    "apiKeyId": "An id as `apiKeyId` has it.",
}
IN_WORKSPACE = (403, 404)
WITH_BODY = (403, 404, 413, 415)
MANAGING = "Needs an OAuth token of an owner or admin of the workspace; an API key is always refused."
OPERATIONS = {
    ("WhoAmIView", "get"): Operation("whoAmI", "Me", "Who the request acts for", {200: PRINCIPAL}),
    ("WorkspaceViewSet", "list"): Operation(
        "listWorkspaces", "Workspaces", "List workspaces", {200: WorkspaceListSerializer}, (403,)
    ),
    ("WorkspaceViewSet", "retrieve"): Operation(
        "fetchWorkspace", "Workspaces", "Fetch a workspace", {200: WorkspaceSerializer}, IN_WORKSPACE
    ),
    ("MemberViewSet", "list"): Operation(
        "listMembers", "Workspaces", "List the members of a workspace", {200: MemberListSerializer}, IN_WORKSPACE
    ),
    ("TaskViewSet", "list"): Operation(
        "listTasks",
        "Tasks",
        "List tasks, the newest first",
        {200: TaskListSerializer},
        IN_WORKSPACE,
        query=TaskQuery,
        parameters=(ALL,),
        description="A person also sees their own private tasks; a key sees nobody's.",
    ),
    ("TaskViewSet", "create"): Operation(
        "createTask", "Tasks", "Create a task", {201: TaskSerializer}, WITH_BODY, TaskSerializer, "task"
    ),
    ("TaskViewSet", "retrieve"): Operation("fetchTask", "Tasks", "Fetch a task", {200: TaskSerializer}, IN_WORKSPACE),
    ("TaskViewSet", "partial_update"): Operation(
        "updateTask",
        "Tasks",
        "Update a task",
        {200: TaskSerializer},
        WITH_BODY,
        TaskSerializer,
        "task",
        description="Changes the fields that are sent. A task may be sent back whole: what is read-only is ignored.",
    ),
    ("TaskViewSet", "destroy"): Operation("deleteTask", "Tasks", "Delete a task", {204: None}, IN_WORKSPACE),
    ("ApiKeyViewSet", "list"): Operation(
        "listApiKeys",
        "ApiKeys",
        "List API keys",
        {200: ApiKeyListSerializer},
        IN_WORKSPACE,
        query=ApiKeyQuery,
        description=MANAGING,
    ),
    ("ApiKeyViewSet", "create"): Operation(
        "createApiKey",
        "ApiKeys",
        "Create an API key",
        {201: CreatedApiKeySerializer, 200: RepeatedApiKeySerializer},
        (*WITH_BODY, 409, 422),
        NewApiKeySerializer,
        "apiKey",
        parameters=(IDEMPOTENCY_KEY,),
        description=f"{MANAGING} The answer holds the secret, this once.",
        answer_headers={200: ("Idempotent-Replayed",)},
    ),
    ("ApiKeyViewSet", "retrieve"): Operation(
        "fetchApiKey", "ApiKeys", "Fetch an API key", {200: ApiKeySerializer}, IN_WORKSPACE, description=MANAGING
    ),
    ("ApiKeyViewSet", "partial_update"): Operation(
        "updateApiKey",
        "ApiKeys",
        "Rename an API key",
        {200: ApiKeySerializer},
        WITH_BODY,
        ApiKeySerializer,
        "apiKey",
        description=MANAGING,
    ),
    ("ApiKeyViewSet", "destroy"): Operation(
        "revokeApiKey",
        "ApiKeys",
        "Revoke an API key",
        {204: None},
        IN_WORKSPACE,
        description=f"{MANAGING} It holds from the next request on; revoking again changes nothing.",
    ),
}
# Where an answer leads: by operation, the operations after it, and what of the answer these take as parameters.
_SAME_WORKSPACE = {"workspaceId": "$request.path.workspaceId"}
_THIS_TASK = {"workspaceId": "$response.body#/workspaceId", "taskId": "$response.body#/taskId"}
_FIRST_TASK = _SAME_WORKSPACE | {"taskId": "$response.body#/tasks/0/taskId"}
_THIS_KEY = _SAME_WORKSPACE | {"apiKeyId": "$response.body#/apiKeyId"}
_FIRST_KEY = _SAME_WORKSPACE | {"apiKeyId": "$response.body#/apiKeys/0/apiKeyId"}
_FIRST_WORKSPACE = {"workspaceId": "$response.body#/workspaces/0/workspaceId"}
LINKS: dict[str, dict[str, dict[str, str]]] = {
    "listWorkspaces": dict.fromkeys(("fetchWorkspace", "listMembers", "listTasks", "createTask"), _FIRST_WORKSPACE),
    "listMembers": {"listTasks": _SAME_WORKSPACE | {"userId": "$response.body#/members/0/userId"}},
    "listTasks": {
        "listTasks": _SAME_WORKSPACE | {"cursor": "$response.body#/nextCursor"},  # the next page
        **dict.fromkeys(("fetchTask", "updateTask", "deleteTask"), _FIRST_TASK),
    },
    "createTask": dict.fromkeys(("fetchTask", "updateTask", "deleteTask"), _THIS_TASK),
    "updateTask": dict.fromkeys(("fetchTask", "deleteTask"), _THIS_TASK),
    "listApiKeys": dict.fromkeys(("fetchApiKey", "updateApiKey", "revokeApiKey"), _FIRST_KEY),
    "createApiKey": dict.fromkeys(("fetchApiKey", "updateApiKey", "revokeApiKey"), _THIS_KEY),
    "updateApiKey": dict.fromkeys(("fetchApiKey", "revokeApiKey"), _THIS_KEY),
}
TAGS = {
    "Tasks": "The work of a workspace.",
    "ApiKeys": "Credentials of a workspace, for its owners and admins.",
    "Workspaces": "Where everything else belongs, and who is in it.",
    "Me": "The principal of the request.",
}
