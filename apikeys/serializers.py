import hashlib
from typing import Any

import orjson
from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers

from apikeys.models import ANY_STATUS, ApiKey, ApiKeyStatus
from apikeys.validators import DESCRIPTION_MAX_LENGTH, DESCRIPTION_VALIDATORS
from workspaces.models import User
from workspaces.serializers import (
    LENGTH_HELP,
    ChoiceField,
    InputSerializer,
    NextCursorField,
    PageQuery,
    TextField,
    TimeField,
)


class PersonSerializer(serializers.Serializer[User]):
    userId = serializers.CharField(source="pk")
    name = serializers.CharField()


class ApiKeySerializer(serializers.Serializer[ApiKey]):
    """A key in a response, without its secret."""

    apiKeyId = serializers.CharField(source="id")
    description = serializers.CharField()
    maskedKey = serializers.CharField(source="masked")
    status = serializers.ChoiceField(choices=ApiKeyStatus.choices)
    createdAt = serializers.DateTimeField(source="created_at")
    createdBy = PersonSerializer(source="created_by", allow_null=True)
    lastUsedAt = serializers.DateTimeField(source="last_used_at", allow_null=True)
    expiresAt = serializers.DateTimeField(source="expires_at", allow_null=True)
    revokedAt = serializers.DateTimeField(source="revoked_at", allow_null=True)
    revokedBy = PersonSerializer(source="revoked_by", allow_null=True)


class ApiKeyListSerializer(serializers.Serializer[Any]):
    apiKeys = ApiKeySerializer(many=True)
    activeCount = serializers.IntegerField()
    activeLimit = serializers.IntegerField()
    nextCursor = NextCursorField()


class CreatedApiKeySerializer(ApiKeySerializer):
    secret = serializers.CharField(help_text="The full bearer string. No other response contains it.")


class RepeatedApiKeySerializer(ApiKeySerializer):
    notice = serializers.CharField(help_text="Why `secret` is missing.")


@extend_schema_serializer(description="A new API key. Other fields are ignored.")
class NewApiKeySerializer(InputSerializer):
    description = TextField(max_length=DESCRIPTION_MAX_LENGTH, validators=DESCRIPTION_VALIDATORS, help_text=LENGTH_HELP)
    expiresAt = TimeField(source="expires_at", required=False, allow_null=True, default=None)

    @property
    def digest(self) -> str:
        """Return a SHA-256 of the validated body, which is the same for equivalent bodies."""
        return hashlib.sha256(orjson.dumps(self.validated_data, option=orjson.OPT_SORT_KEYS)).hexdigest()


@extend_schema_serializer(
    description="The fields of an API key to change. Other fields, such as `apiKeyId` and `createdAt`, are ignored."
)
class ApiKeyChangesSerializer(InputSerializer):
    description = TextField(
        max_length=DESCRIPTION_MAX_LENGTH, required=False, validators=DESCRIPTION_VALIDATORS, help_text=LENGTH_HELP
    )


class ApiKeyQuery(PageQuery):
    """The query string of listApiKeys."""

    cursor_prefix = "key"

    status = ChoiceField(choices=[*ApiKeyStatus.values, ANY_STATUS], default=ApiKeyStatus.ACTIVE.value)
