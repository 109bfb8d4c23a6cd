import hashlib
import re
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError as InvalidForModel
from django.views.decorators.debug import sensitive_variables
from rest_framework import status
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from apikeys.events import Actor, Via
from apikeys.models import ApiKey, ApiKeyQuerySet, CreatedAlready
from apikeys.permissions import KeyManagerRequired, PersonRequired, PrincipalRequired, ScopeRequired
from apikeys.serializers import ApiKeyQuery, ApiKeySerializer, NewApiKeySerializer
from onehorizon.client import client_address
from workspaces.access import Scope, Scopes
from workspaces.ids import is_id
from workspaces.viewsets import InWorkspaceViewSet

IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")
SHOWN_ALREADY = "An earlier request with this Idempotency-Key made the key and was answered with its secret."


class ApiKeyViewSet(InWorkspaceViewSet):
    permission_classes = [PrincipalRequired, PersonRequired, ScopeRequired, KeyManagerRequired]
    scopes = Scopes(read=Scope.MANAGE_KEYS, write=Scope.MANAGE_KEYS)

    def get_queryset(self) -> ApiKeyQuerySet:
        return self.workspace.api_keys.select_related("created_by", "revoked_by")

    def get_object(self) -> ApiKey:
        api_key_id = self.kwargs["api_key_id"]
        if not is_id("key", api_key_id):
            raise ApiKey.DoesNotExist
        return self.get_queryset().get(pk=api_key_id)

    @property
    def actor(self) -> Actor:
        return Actor(Via.API, self.principal.user, client_address(self.request))

    def list(self, request: Request, workspace_id: str) -> Response:
        query = ApiKeyQuery(data=request.query_params)
        query.is_valid(raise_exception=True)
        keys = self.get_queryset()
        return Response(
            {
                "apiKeys": ApiKeySerializer(keys.having_status(query.validated_data["status"]), many=True).data,
                "activeCount": keys.active().count(),
                "activeLimit": settings.APIKEYS_MAX_ACTIVE,
            }
        )

    @sensitive_variables("secret")
    def create(self, request: Request, workspace_id: str) -> Response:
        serializer = NewApiKeySerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        try:
            api_key, secret = ApiKey.objects.create_key(
                self.workspace, by=self.actor, **serializer.validated_data, **self._once(serializer.digest)
            )
        except InvalidForModel as error:  # its expiry, the one field that is the model's alone to judge
            raise ValidationError({"expiresAt": error.messages}) from None
        except CreatedAlready as again:
            body = {**ApiKeySerializer(again.api_key).data, "notice": SHOWN_ALREADY}
            return Response(body, headers={"Idempotent-Replayed": "true"})
        return Response({**ApiKeySerializer(api_key).data, "secret": secret}, status=status.HTTP_201_CREATED)

    def _once(self, digest: str) -> dict[str, Any]:
        """What makes the request safe to repeat: its `Idempotency-Key`, which is the person's own, and its digest."""
        given = self.request.headers.get("Idempotency-Key")
        if given is None:
            return {}
        if not IDEMPOTENCY_KEY.fullmatch(given):
            raise ValidationError({"Idempotency-Key": "Send 1 to 255 printable ASCII characters without spaces."})
        own = hashlib.sha256(f"{self.principal.quota_subject} {given}".encode()).hexdigest()
        return {"idempotency_key": own, "request_digest": digest}

    def retrieve(self, request: Request, workspace_id: str, api_key_id: str) -> Response:
        return Response(ApiKeySerializer(self.get_object()).data)

    def partial_update(self, request: Request, workspace_id: str, api_key_id: str) -> Response:
        api_key = self.get_object()
        serializer = ApiKeySerializer(api_key, data=self.body, partial=True)
        serializer.is_valid(raise_exception=True)
        api_key.rename(serializer.validated_data.get("description", api_key.description), by=self.actor)
        return Response(ApiKeySerializer(api_key).data)

    def destroy(self, request: Request, workspace_id: str, api_key_id: str) -> Response:
        self.get_object().revoke(by=self.actor)
        return Response(status=status.HTTP_204_NO_CONTENT)
