import hashlib
import re
from typing import Any, ClassVar

from django.conf import settings
from django.core.exceptions import ValidationError as DjangoValidationError
from django.views.decorators.debug import sensitive_variables
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import status
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from apikeys.models import (
    ApiKey,
    ApiKeyQuerySet,
    ApiKeyUsageQuerySet,
    Counts,
    KeyAlreadyCreated,
    KeyAlreadyRotated,
    Period,
    StoredSecret,
)
from apikeys.permissions import (
    KeyManagerRequired,
    PersonRequired,
    PrincipalRequired,
    ScopeRequired,
    may_manage_keys,
)
from apikeys.principals import ApiKeyPrincipal
from apikeys.serializers import (
    MAX_KEYS_OF_USAGE,
    ApiKeyChangesSerializer,
    ApiKeyListSerializer,
    ApiKeyQuery,
    ApiKeyRotationSerializer,
    ApiKeySerializer,
    ApiKeyUsageSerializer,
    CreatedApiKeySerializer,
    NewApiKeySerializer,
    RepeatedApiKeySerializer,
    RotatedApiKeySerializer,
    UsageQuery,
    WorkspaceUsageSerializer,
    requested_period,
)
from workspaces.access import Scope, Scopes
from workspaces.api import created_response
from workspaces.ids import get_by_id
from workspaces.models import Actor, Via
from workspaces.paging import page_after
from workspaces.serializers import ErrorBodySerializer
from workspaces.viewsets import InWorkspaceViewSet

IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")
ALREADY_CREATED = (
    "An earlier request with this Idempotency-Key created the key, and only its response contained the secret."
)
ALREADY_ROTATED = (
    "An earlier request with this Idempotency-Key rotated the key, and only its response contained the secret."
)

MANAGERS_ONLY = "Requires an OAuth token of an owner or admin of the workspace. API keys always get 403."
WHAT_IS_COUNTED = (
    "Counts authenticated requests of API keys, by the hour or day in UTC. The period is extended to whole intervals. "
    "Figures are up to five seconds late, and are kept for 90 days unless the installation sets another number."
)
API_KEY_BODY = {"x-codegen-request-body-name": "apiKey"}
IDEMPOTENCY = [
    OpenApiParameter(
        "Idempotency-Key",
        {"type": "string", "pattern": f"^{IDEMPOTENCY_KEY.pattern}$"},
        OpenApiParameter.HEADER,
        description="Makes retries safe: a second request with the same value and body changes nothing.",
    ),
    OpenApiParameter(
        "Idempotent-Replayed",
        {"type": "string", "const": "true"},
        OpenApiParameter.HEADER,
        description="Sent if an earlier request created or rotated the key.",
        response=[200],
    ),
]


@extend_schema(tags=["ApiKeys"], description=MANAGERS_ONLY)
@extend_schema_view(
    list=extend_schema(
        operation_id="listApiKeys",
        summary="List API keys, newest first",
        parameters=[ApiKeyQuery],
        responses=ApiKeyListSerializer,
    ),
    create=extend_schema(
        operation_id="createApiKey",
        summary="Create an API key",
        description=f"{MANAGERS_ONLY} Only this response contains the secret.",
        parameters=IDEMPOTENCY,
        request=NewApiKeySerializer,
        responses={
            201: CreatedApiKeySerializer,
            200: RepeatedApiKeySerializer,
            409: ErrorBodySerializer,
            422: ErrorBodySerializer,
        },
        extensions=API_KEY_BODY,
    ),
    retrieve=extend_schema(operation_id="fetchApiKey", summary="Fetch an API key", responses=ApiKeySerializer),
    partial_update=extend_schema(
        operation_id="updateApiKey",
        summary="Rename an API key",
        request=ApiKeyChangesSerializer,
        responses=ApiKeySerializer,
        extensions=API_KEY_BODY,
    ),
    destroy=extend_schema(
        operation_id="revokeApiKey",
        summary="Revoke an API key",
        description=f"{MANAGERS_ONLY} The key's next request fails. Revoking a revoked key changes nothing.",
        responses={204: None},
    ),
)
class ApiKeyViewSet(InWorkspaceViewSet):
    permission_classes = [PrincipalRequired, PersonRequired, ScopeRequired, KeyManagerRequired]
    scopes = Scopes(read=Scope.MANAGE_KEYS, write=Scope.MANAGE_KEYS)
    query_serializers: ClassVar = {"list": ApiKeyQuery, "usage": UsageQuery}

    def get_queryset(self) -> ApiKeyQuerySet:
        return self.workspace.api_keys.with_users().with_secrets()

    def get_object(self) -> ApiKey:
        return get_by_id(self.get_queryset(), self.kwargs["api_key_id"])

    @property
    def actor(self) -> Actor:
        return Actor.of(self.request, Via.API)

    def list(self, request: Request, workspace_id: str) -> Response:
        keys = self.get_queryset()
        page = page_after(keys.with_status(self.query["status"]), self.query.get("cursor", ""), self.query["limit"])
        serializer = ApiKeyListSerializer(
            {
                "apiKeys": page.rows,
                "activeCount": keys.active().count(),
                "activeLimit": settings.APIKEYS_MAX_ACTIVE,
                "nextCursor": page.next_cursor,
            }
        )
        return Response(serializer.data)

    @sensitive_variables("secret")
    def create(self, request: Request, workspace_id: str) -> Response:
        serializer = NewApiKeySerializer(data=self.body)
        serializer.is_valid(raise_exception=True)
        try:
            api_key, secret = ApiKey.objects.create_key(
                self.workspace, by=self.actor, **serializer.validated_data, **self._idempotency(serializer.digest)
            )
        except DjangoValidationError as error:
            names = {field.source: name for name, field in serializer.fields.items()}
            errors = {names[field]: messages for field, messages in error.message_dict.items()}
            raise ValidationError(errors) from None
        except KeyAlreadyCreated as duplicate:
            return _repeated(duplicate.api_key, ALREADY_CREATED)
        body = {**ApiKeySerializer(api_key).data, "secret": secret}
        return created_response(body, "fetch-api-key", api_key.workspace_id, api_key.pk)

    @extend_schema(
        operation_id="rotateApiKey",
        summary="Rotate an API key",
        description=f"{MANAGERS_ONLY} The key gets a new secret, which only this response contains. The replaced "
        "secret works until the end of the overlap. A previous secret that still works ends now. The response to a "
        "repeated request has `notice` instead of `secret`.",
        parameters=IDEMPOTENCY,
        request=ApiKeyRotationSerializer,
        responses={200: RotatedApiKeySerializer, 409: ErrorBodySerializer, 422: ErrorBodySerializer},
        extensions={"x-codegen-request-body-name": "rotation"},
    )
    @sensitive_variables("secret")
    def rotate(self, request: Request, workspace_id: str, api_key_id: str) -> Response:
        api_key = self.get_object()
        serializer = ApiKeyRotationSerializer(data=request.data)  # without a body an empty object: all defaults
        serializer.is_valid(raise_exception=True)
        try:
            secret = api_key.rotate(overlap=serializer.overlap, by=self.actor, **self._idempotency(serializer.digest))
        except KeyAlreadyRotated as duplicate:
            return _repeated(duplicate.api_key, ALREADY_ROTATED)
        return Response({**ApiKeySerializer(api_key).data, "secret": secret})

    @extend_schema(
        operation_id="endPreviousSecret",
        summary="End the previous secret of an API key",
        description=f"{MANAGERS_ONLY} The next request with the previous secret fails. If there is none, this changes "
        "nothing.",
        responses={204: None},
    )
    def end_previous_secret(self, request: Request, workspace_id: str, api_key_id: str) -> Response:
        self.get_object().end_previous_secret(by=self.actor)
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(
        operation_id="apiKeyUsage",
        summary="Fetch the usage of an API key",
        description=f"{MANAGERS_ONLY} {WHAT_IS_COUNTED}",
        parameters=[UsageQuery],
        responses=ApiKeyUsageSerializer,
    )
    def usage(self, request: Request, workspace_id: str, api_key_id: str) -> Response:
        api_key = self.get_object()
        period = requested_period(self.query)
        usage = _usage(self.workspace.usage.filter(api_key=api_key), period)
        return Response(ApiKeyUsageSerializer(usage | {"api_key": api_key}).data)

    def _idempotency(self, digest: str) -> dict[str, Any]:
        """Return the arguments of `create_key` or `rotate` for the header, whose value is scoped to the person."""
        header = self.request.headers.get("Idempotency-Key")
        if header is None:
            return {}
        if not IDEMPOTENCY_KEY.fullmatch(header):
            raise ValidationError({"Idempotency-Key": "Send 1 to 255 printable ASCII characters without spaces."})
        idempotency_key = hashlib.sha256(f"{self.principal.quota_subject} {header}".encode()).hexdigest()
        return {"idempotency_key": idempotency_key, "request_digest": digest}

    def retrieve(self, request: Request, workspace_id: str, api_key_id: str) -> Response:
        return Response(ApiKeySerializer(self.get_object()).data)

    def partial_update(self, request: Request, workspace_id: str, api_key_id: str) -> Response:
        api_key = self.get_object()
        serializer = ApiKeyChangesSerializer(data=self.body)
        serializer.is_valid(raise_exception=True)
        if "description" in serializer.validated_data:
            api_key.rename(serializer.validated_data["description"], by=self.actor)
        return Response(ApiKeySerializer(api_key).data)

    def destroy(self, request: Request, workspace_id: str, api_key_id: str) -> Response:
        self.get_object().revoke(by=self.actor)
        return Response(status=status.HTTP_204_NO_CONTENT)


def _repeated(api_key: ApiKey, notice: str) -> Response:
    """Return the response to a repeated request, without the secret."""
    return Response({**ApiKeySerializer(api_key).data, "notice": notice}, headers={"Idempotent-Replayed": "true"})


@extend_schema(tags=["Workspaces"])
class WorkspaceUsageViewSet(InWorkspaceViewSet):
    query_serializers: ClassVar = {"retrieve": UsageQuery}

    @extend_schema(
        operation_id="workspaceUsage",
        summary="Fetch the usage of a workspace by its API keys",
        description=f"{WHAT_IS_COUNTED} Requests with OAuth tokens count against the quota of a person, and are not "
        "included. `apiKeyId` and `description` are null, except for the key that sends the request, and for owners "
        "and admins with the scope `api-keys:manage`.",
        parameters=[UsageQuery],
        responses=WorkspaceUsageSerializer,
    )
    def retrieve(self, request: Request, workspace_id: str) -> Response:
        workspace, period = self.workspace, requested_period(self.query)
        usage = _usage(workspace.usage.all(), period) | {"workspace": workspace, "by_key": self._by_key(period)}
        return Response(WorkspaceUsageSerializer(usage).data)

    def _by_key(self, period: Period) -> list[dict[str, Any]]:
        """Return the usage of each key, with the id and the description of those that the principal may know."""
        counts = dict(self.workspace.usage.in_period(period).busiest_keys(MAX_KEYS_OF_USAGE))
        secrets = StoredSecret.objects.current().filter(workspace=self.workspace, api_key__in=counts)
        by_key = {stored.api_key_id: stored for stored in secrets.select_related("api_key").without_hashes()}
        known = set(counts) if may_manage_keys(self.principal, self.workspace) else set()
        if isinstance(self.principal, ApiKeyPrincipal):
            known.add(self.principal.stored_secret.api_key_id)
        return [
            {
                "api_key_id": api_key_id if api_key_id in known else None,
                "masked": by_key[api_key_id].masked,
                "description": by_key[api_key_id].api_key.description if api_key_id in known else None,
                **numbers._asdict(),
            }
            for api_key_id, numbers in counts.items()
        ]


def _usage(usage: ApiKeyUsageQuerySet, period: Period) -> dict[str, Any]:
    """Return the values of a `UsageSerializer`."""
    points = usage.by_interval(period)
    total = Counts.sum(counts for _, counts in points)
    return {"period": period, "total": total, "points": [{"at": at, **counts._asdict()} for at, counts in points]}
