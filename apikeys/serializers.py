import hashlib
from datetime import datetime
from typing import Any

import orjson
from django.utils import timezone
from rest_framework import serializers

from apikeys.models import DESCRIPTION_MAX_LENGTH
from workspaces.models import User
from workspaces.serializers import InputSerializer, TextField
from workspaces.validators import single_line


class PersonField(serializers.Field[User, Any, dict[str, str], Any]):
    def to_representation(self, value: User) -> dict[str, str]:
        return {"userId": value.pk, "name": value.name}


class ApiKeySerializer(InputSerializer):
    """A key, in and out; never its secret. What is read-only is ignored when sent."""

    apiKeyId = serializers.CharField(source="id", read_only=True)
    description = TextField(max_length=DESCRIPTION_MAX_LENGTH, validators=[single_line])
    maskedKey = serializers.CharField(source="masked", read_only=True)
    status = serializers.CharField(read_only=True)
    createdAt = serializers.DateTimeField(source="created_at", read_only=True)
    createdBy = PersonField(source="created_by", read_only=True)
    lastUsedAt = serializers.DateTimeField(source="last_used_at", read_only=True)
    expiresAt = serializers.DateTimeField(source="expires_at", read_only=True)
    revokedAt = serializers.DateTimeField(source="revoked_at", read_only=True)
    revokedBy = PersonField(source="revoked_by", read_only=True)


def in_the_future(time: datetime | None) -> None:
    if time is not None and time <= timezone.now():
        raise serializers.ValidationError("This is in the past.")


class NewApiKeySerializer(InputSerializer):
    description = TextField(max_length=DESCRIPTION_MAX_LENGTH, validators=[single_line])
    expiresAt = serializers.DateTimeField(
        source="expires_at", required=False, allow_null=True, default=None, validators=[in_the_future]
    )

    @property
    def digest(self) -> str:
        """The same for every body that asks for the same key."""
        return hashlib.sha256(orjson.dumps(self.validated_data, option=orjson.OPT_SORT_KEYS)).hexdigest()


class ApiKeyQuery(InputSerializer):
    """The query string of listApiKeys."""

    status = serializers.ChoiceField(choices=["active", "revoked", "expired", "all"], default="active")
