import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import islice
from types import MappingProxyType
from typing import Any

from django.http import QueryDict
from drf_spectacular.utils import PolymorphicProxySerializer, extend_schema_field, extend_schema_serializer
from rest_framework import serializers

from workspaces.api_fields import (
    ChoiceField,
    CursorField,
    IdField,
    LimitField,
    LineField,
    LinesField,
    NextCursorField,
    UserFilterField,
    UserIdField,
)
from workspaces.ids import is_id
from workspaces.models import (
    Role,
    Task,
    TaskContributionType,
    TaskKind,
    TaskScope,
    TaskStatus,
    TaskVisibility,
    User,
    Workspace,
)

MAX_CONTRIBUTORS = 100

VISIBILITY_HELP = "`private`: only the owner can see the task. API keys can't."

# Names of parameters that an error may repeat, unless they may contain a secret: a key or a part of one, or a token.
_PARAMETER_NAME = re.compile(r"[A-Za-z_$][\w$.:\[\]-]{0,39}", re.ASCII)
_SECRET = re.compile(r"one_|[0-9A-Za-z]{24}")


class InputSerializer(serializers.Serializer[Any]):
    """Base class of request bodies, which must be JSON objects. `null` is rejected too."""

    default_error_messages = {"invalid": "This must be a JSON object."}

    def validate_empty_values(self, data: Any) -> tuple[bool, Any]:
        return (False, None) if data is None else super().validate_empty_values(data)


class QuerySerializer(InputSerializer):
    """A query string, validated like a body.

    Unknown parameters are errors: with a misspelled filter, a client would get, and perhaps delete, more than it meant.
    Repeated ones are too, unless the field is a list. DRF ignores empty values of a `QueryDict`, so that `?cursor=`
    would return the first page again. Here they are values: a plain dict is validated instead.
    """

    MAX_ERRORS = 10

    def to_internal_value(self, data: QueryDict) -> Any:
        errors = dict(islice(self._name_errors(data), self.MAX_ERRORS))
        if errors:
            raise serializers.ValidationError(errors)
        values = {
            name: data.getlist(name) if isinstance(field, serializers.ListField) else data[name]
            for name, field in self.fields.items()
            if name in data
        }
        return super().to_internal_value(values)

    def _name_errors(self, data: QueryDict) -> Iterator[tuple[str, str]]:
        """Yield the name and error of each unknown or repeated parameter. A name that may be a secret is `query`."""
        known = f"Use one of: {', '.join(self.fields)}." if self.fields else "This operation has none."
        for name, values in data.lists():
            field = self.fields.get(name)
            if field is None:
                is_safe = _PARAMETER_NAME.fullmatch(name) and not _SECRET.search(name)
                list_name = name.partition("[")[0]  # some clients send `status[]=open` or `status[0]=open`
                is_list = isinstance(self.fields.get(list_name), serializers.ListField)
                hint = f"Send {list_name}=… once for each value, without brackets." if is_list else known
                yield name if is_safe else "query", f"Unknown query parameter. {hint}"
            elif len(values) > 1 and not isinstance(field, serializers.ListField):
                yield name, "Send this query parameter once."


@lru_cache(maxsize=256)
def validated_query(serializer: type[QuerySerializer], query_string: str) -> Mapping[str, Any]:
    """Return the validated values of a query string, by the `source` of each field. Raise `ValidationError`."""
    query = serializer(data=QueryDict(query_string))
    query.is_valid(raise_exception=True)
    return MappingProxyType(query.validated_data)


class PageQuery(QuerySerializer):
    """The query string of a list with pages."""

    limit = LimitField()


@extend_schema_serializer(description="The body of every error response.")
class ErrorBodySerializer(serializers.Serializer[Any]):
    """Documents the body that the exception handler (onehorizon.errors) builds."""

    code = serializers.IntegerField(help_text="The HTTP status.")
    message = serializers.CharField(help_text="What is wrong, in one sentence.")
    errors = serializers.DictField(  # type: ignore[assignment]  # a field, which DRF takes off the class
        child=serializers.ListField(child=serializers.CharField()),
        required=False,
        help_text="On 400: the errors of each invalid field, such as `contributors.0.userId`.",
    )


class PersonSerializer(serializers.Serializer[User]):
    userId = IdField("u", source="pk")
    name = serializers.CharField()


class WorkspaceSerializer(serializers.Serializer[Workspace]):
    workspaceId = IdField("w", source="id")
    name = serializers.CharField()
    slug = serializers.SlugField()
    createdAt = serializers.DateTimeField(source="created_at")


class WorkspaceListSerializer(serializers.Serializer[Any]):
    workspaces = WorkspaceSerializer(many=True)


class MemberSerializer(serializers.Serializer[Any]):
    userId = IdField("u", source="user_id")
    name = serializers.CharField(source="user.name")
    email = serializers.CharField(source="user.email")
    role = serializers.ChoiceField(choices=Role.choices)


class MemberListSerializer(serializers.Serializer[Any]):
    members = MemberSerializer(many=True)


class ContributorSerializer(InputSerializer):
    userId = UserIdField(source="user_id")
    type = ChoiceField(choices=TaskContributionType.choices)


@extend_schema_serializer(description="A new task. Other fields, such as `taskId` and `createdAt`, are ignored.")
class NewTaskSerializer(InputSerializer):
    """The body of createTask. Like all unknown fields, read-only fields are ignored: clients can send a task back."""

    title = LineField(max_length=Task.TITLE_MAX_LENGTH)
    description = LinesField(max_length=Task.DESCRIPTION_MAX_LENGTH, required=False)
    status = ChoiceField(choices=TaskStatus.choices, required=False)
    kind = ChoiceField(choices=TaskKind.choices, required=False)
    scope = ChoiceField(choices=TaskScope.choices, required=False)
    visibility = ChoiceField(choices=TaskVisibility.choices, required=False, help_text=VISIBILITY_HELP)
    userId = UserIdField(
        source="user_id",
        required=False,
        allow_null=True,
        help_text="The owner. Must be a member of the workspace. A private task must have one.",
    )
    contributors = ContributorSerializer(  # type: ignore[call-arg]  # max_length goes to the list
        many=True,
        required=False,
        max_length=MAX_CONTRIBUTORS,
        help_text="Members of the workspace, each at most once per type. An update replaces all contributors.",
    )

    def validate_contributors(self, contributors: list[dict[str, str]]) -> list[tuple[str, str]]:
        pairs = [(contributor["user_id"], contributor["type"]) for contributor in contributors]
        if len(set(pairs)) != len(pairs):
            raise serializers.ValidationError("A user is listed twice with the same type.")
        return pairs

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        self._require_members(attrs)
        task: Task | None = self.instance
        visibility = attrs.get("visibility", task.visibility if task else TaskVisibility.TEAM)
        owner = attrs.get("user_id", task.user_id if task else None)
        if visibility == TaskVisibility.PRIVATE and owner is None:
            raise serializers.ValidationError({"userId": "A private task must have an owner."})
        return attrs

    def _require_members(self, attrs: dict[str, Any]) -> None:
        """Reject users outside of the workspace. The task's current owner and contributors may have left it."""
        contributors = {user_id for user_id, _ in attrs.get("contributors", [])}
        owner = attrs.get("user_id")
        valid_ids = {user_id for user_id in contributors | {owner} if user_id and is_id("u", user_id)}
        workspace: Workspace = self.context["workspace"]
        allowed = set(workspace.memberships.filter(user__in=valid_ids).values_list("user_id", flat=True))
        if self.instance is not None:
            allowed |= {self.instance.user_id, *(c.user_id for c in self.instance.contributors.all())}
        errors = {}
        if owner is not None and owner not in allowed:
            errors["userId"] = "This user is not a member of the workspace."
        if contributors - allowed:
            errors["contributors"] = "All contributors must be members of the workspace."
        if errors:
            raise serializers.ValidationError(errors)

    def create(self, validated_data: dict[str, Any]) -> Task:
        return Task.objects.create_task(self.context["workspace"], **validated_data)


@extend_schema_serializer(
    description="The fields of a task to change. Other fields, such as `taskId` and `createdAt`, are ignored."
)
class TaskChangesSerializer(NewTaskSerializer):
    """The body of updateTask: all fields of a new task, none of them required."""

    title = LineField(max_length=Task.TITLE_MAX_LENGTH, required=False)

    def update(self, instance: Task, validated_data: dict[str, Any]) -> Task:
        instance.update(**validated_data)
        return instance


class TaskSerializer(serializers.Serializer[Task]):
    """A task in a response."""

    taskId = IdField("tsk", source="id")
    workspaceId = IdField("w", source="workspace_id")
    title = serializers.CharField()
    description = serializers.CharField()
    status = serializers.ChoiceField(choices=TaskStatus.choices)
    kind = serializers.ChoiceField(choices=TaskKind.choices)
    scope = serializers.ChoiceField(choices=TaskScope.choices)
    visibility = serializers.ChoiceField(choices=TaskVisibility.choices, help_text=VISIBILITY_HELP)
    userId = IdField("u", source="user_id", allow_null=True, help_text="The owner, or null.")
    contributors = ContributorSerializer(many=True)
    createdAt = serializers.DateTimeField(source="created_at")
    updatedAt = serializers.DateTimeField(source="updated_at")
    completedAt = serializers.DateTimeField(source="completed_at", allow_null=True)


class TaskListSerializer(serializers.Serializer[Any]):
    tasks = TaskSerializer(many=True)
    nextCursor = NextCursorField("tsk")


class TaskQuery(PageQuery):
    """The query string of listTasks."""

    cursor = CursorField("tsk")
    status = serializers.ListField(
        child=ChoiceField(choices=TaskStatus.choices),
        required=False,
        help_text="Only tasks with one of these statuses.",
    )
    scope = serializers.ListField(
        child=ChoiceField(choices=TaskScope.choices), required=False, help_text="Only tasks with one of these scopes."
    )
    kind = serializers.ListField(
        child=ChoiceField(choices=TaskKind.choices), required=False, help_text="Only tasks of one of these kinds."
    )
    userId = UserFilterField(source="user", required=False, help_text="Only tasks of this owner.")
    all = serializers.BooleanField(required=False, help_text="Accepted for compatibility. Has no effect.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        attrs.pop("all", None)
        return attrs


class QuotaLimitSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    requests = serializers.IntegerField(help_text="The most requests that are admitted in any span of `seconds`.")
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
    """The response of `GET /me`. Each kind of principal adds its own fields."""

    workspace = WorkspaceSerializer(
        allow_null=True, help_text="The workspace of the id `current`, or null if none is chosen."
    )
    quota = QuotaSerializer()


class ApiKeyPrincipalSerializer(PrincipalSerializer):
    kind = ApiKeyKindField()
    apiKeyId = IdField("key")
    maskedKey = serializers.CharField()
    description = serializers.CharField()


class UserPrincipalSerializer(PrincipalSerializer):
    kind = UserKindField()
    userId = IdField("u")
    name = serializers.CharField(required=False, help_text="Requires the scope `profile`.")
    email = serializers.CharField(required=False, help_text="Requires the scope `email`.")
    role = serializers.CharField(allow_null=True, help_text="The role in `workspace`: owner, admin or member.")
    scopes = serializers.ListField(child=serializers.CharField())


AnyPrincipalSerializer = PolymorphicProxySerializer(
    component_name="Principal",
    serializers={"apiKey": ApiKeyPrincipalSerializer, "user": UserPrincipalSerializer},
    resource_type_field_name="kind",
)
