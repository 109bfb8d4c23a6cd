import hashlib
from datetime import timedelta
from typing import Any

import orjson
from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers

from apikeys.models import ANY_STATUS, DEFAULT_OVERLAP, MAX_OVERLAP, ApiKey, ApiKeyStatus, StoredSecret
from apikeys.validators import DESCRIPTION_MAX_LENGTH, DESCRIPTION_VALIDATORS, PART_OF_A_KEY
from workspaces.api_fields import (
    LINE_HELP,
    ChoiceField,
    CursorField,
    IdField,
    LineField,
    NextCursorField,
    TimeField,
    WholeNumberField,
)
from workspaces.serializers import InputSerializer, PageQuery, PersonSerializer

SHOWN_ONCE = "The full bearer string. No other response contains it."
WHY_MISSING = "Why `secret` is missing: an earlier request had the same Idempotency-Key."


class RepeatableSerializer(InputSerializer):
    """The body of a request that supports `Idempotency-Key`."""

    @property
    def digest(self) -> str:
        """Return a SHA-256 of the validated body, which is the same for equivalent bodies."""
        return hashlib.sha256(orjson.dumps(self.validated_data, option=orjson.OPT_SORT_KEYS)).hexdigest()


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


class PreviousSecretSerializer(serializers.Serializer[StoredSecret]):
    maskedKey = serializers.CharField(source="masked")
    endsAt = serializers.DateTimeField(source="ends_at", help_text="When it stops working.")
    lastUsedAt = serializers.DateTimeField(source="last_used_at", allow_null=True)


class ApiKeySerializer(serializers.Serializer[ApiKey]):
    """A key in a response, without its secret."""

    apiKeyId = IdField("key", source="id")
    description = serializers.CharField()
    maskedKey = serializers.CharField(source="masked", help_text="The current secret, masked.")
    status = serializers.ChoiceField(choices=ApiKeyStatus.choices)
    createdAt = serializers.DateTimeField(source="created_at")
    createdBy = PersonSerializer(source="created_by", allow_null=True)
    lastUsedAt = serializers.DateTimeField(
        source="current_secret.last_used_at", allow_null=True, help_text="The last use of the current secret."
    )
    expiresAt = serializers.DateTimeField(source="expires_at", allow_null=True)
    revokedAt = serializers.DateTimeField(source="revoked_at", allow_null=True)
    revokedBy = PersonSerializer(source="revoked_by", allow_null=True)
    previousSecret = PreviousSecretSerializer(
        source="previous_secret",
        allow_null=True,
        help_text="The secret that the last rotation replaced, or null if it no longer works.",
    )


class ApiKeyListSerializer(serializers.Serializer[Any]):
    apiKeys = ApiKeySerializer(many=True)
    activeCount = serializers.IntegerField()
    activeLimit = serializers.IntegerField()
    nextCursor = NextCursorField("key")


class CreatedApiKeySerializer(ApiKeySerializer):
    secret = serializers.CharField(help_text=SHOWN_ONCE)


class RepeatedApiKeySerializer(ApiKeySerializer):
    notice = serializers.CharField(help_text=WHY_MISSING)


class RotatedApiKeySerializer(ApiKeySerializer):
    """A rotated key. The response to a repeated request has the same status, so both are one type for clients."""

    secret = serializers.CharField(required=False, help_text=SHOWN_ONCE)
    notice = serializers.CharField(required=False, help_text=WHY_MISSING)


@extend_schema_serializer(description="A new API key. Other fields are ignored.")
class NewApiKeySerializer(RepeatableSerializer):
    description = DescriptionField()
    expiresAt = TimeField(
        source="expires_at",
        required=False,
        allow_null=True,
        default=None,
        help_text="When the key expires: in the future, and not after the year 9999 in UTC. Leap seconds are rejected.",
    )


@extend_schema_serializer(description="How to rotate an API key. Other fields are ignored.")
class ApiKeyRotationSerializer(RepeatableSerializer):
    overlapSeconds = WholeNumberField(
        min_value=0,
        max_value=int(MAX_OVERLAP.total_seconds()),
        default=int(DEFAULT_OVERLAP.total_seconds()),
        help_text="How long the replaced secret keeps working, at most until the key expires. 0 ends it at once.",
    )

    @property
    def overlap(self) -> timedelta:
        return timedelta(seconds=self.validated_data["overlapSeconds"])


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
