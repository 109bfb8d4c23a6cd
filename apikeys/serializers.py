import hashlib
from typing import Any

import orjson
from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers

from apikeys.models import ANY_STATUS, ApiKey, ApiKeyStatus
from apikeys.validators import DESCRIPTION_MAX_LENGTH, DESCRIPTION_VALIDATORS, PART_OF_A_KEY
from workspaces.api_fields import LINE_HELP, ChoiceField, CursorField, IdField, LineField, NextCursorField, TimeField
from workspaces.serializers import InputSerializer, PageQuery, PersonSerializer


class DescriptionField(LineField):
    """The description of a key in a request."""

    forbidden_pattern = f"{PART_OF_A_KEY.pattern}|{LineField.forbidden_pattern}"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            max_length=DESCRIPTION_MAX_LENGTH,
            validators=DESCRIPTION_VALIDATORS,
            help_text=f"{LINE_HELP} Must not contain a key.",
            **kwargs,
        )


class ApiKeySerializer(serializers.Serializer[ApiKey]):
    """A key in a response, without its secret."""

    apiKeyId = IdField("key", source="id")
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
    nextCursor = NextCursorField("key")


class CreatedApiKeySerializer(ApiKeySerializer):
    secret = serializers.CharField(help_text="The full bearer string. No other response contains it.")


class RepeatedApiKeySerializer(ApiKeySerializer):
    notice = serializers.CharField(help_text="Why `secret` is missing.")


@extend_schema_serializer(description="A new API key. Other fields are ignored.")
class NewApiKeySerializer(InputSerializer):
    description = DescriptionField()
    expiresAt = TimeField(
        source="expires_at",
        required=False,
        allow_null=True,
        default=None,
        help_text="When the key expires: in the future, and not after the year 9999 in UTC. Leap seconds are rejected.",
    )

    @property
    def digest(self) -> str:
        """Return a SHA-256 of the validated body, which is the same for equivalent bodies."""
        return hashlib.sha256(orjson.dumps(self.validated_data, option=orjson.OPT_SORT_KEYS)).hexdigest()


@extend_schema_serializer(
    description="The fields of an API key to change. Other fields, such as `apiKeyId` and `createdAt`, are ignored."
)
class ApiKeyChangesSerializer(InputSerializer):
    description = DescriptionField(required=False)


class ApiKeyQuery(PageQuery):
    """The query string of listApiKeys."""

    cursor = CursorField("key")
    status = ChoiceField(
        choices=[*ApiKeyStatus.values, ANY_STATUS],
        default=ApiKeyStatus.ACTIVE.value,
        help_text=f"Only keys with this status, or `{ANY_STATUS}`.",
    )
