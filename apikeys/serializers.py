import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import orjson
from django.utils import timezone
from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers

from apikeys.models import (
    ANY_STATUS,
    DEFAULT_OVERLAP,
    MAX_OVERLAP,
    ApiKey,
    ApiKeyStatus,
    Counts,
    Interval,
    Period,
    StoredSecret,
)
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
from workspaces.serializers import InputSerializer, PageQuery, PersonSerializer, QuerySerializer

SHOWN_ONCE = "The full bearer string. No other response contains it."
WHY_MISSING = "Why `secret` is missing: an earlier request had the same Idempotency-Key."
WHY_NULL = "Null, unless this key sends the request or you can manage keys."

DEFAULT_PERIOD = {Interval.HOUR: timedelta(hours=24), Interval.DAY: timedelta(days=30)}
MAX_PERIOD = {Interval.HOUR: timedelta(days=31), Interval.DAY: timedelta(days=366)}
MAX_KEYS_OF_USAGE = 100


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


# ---- usage ----


class TimeParameterField(TimeField):
    """A time in a query string. A `+` that is not encoded as `%2B` arrives as a space."""

    def to_internal_value(self, data: Any) -> datetime:
        return super().to_internal_value(data.replace(" ", "+"))


class UsageQuery(QuerySerializer):
    """The query string of apiKeyUsage and workspaceUsage. `requested_period` validates the period."""

    locals()["from"] = TimeParameterField(  # a keyword of Python
        source="start",
        required=False,
        help_text="The start of the period, by default 24 hours before `to`, or 30 days with `interval=day`. A period "
        f"has at most {MAX_PERIOD[Interval.HOUR].days} days, or {MAX_PERIOD[Interval.DAY].days} with `interval=day`. "
        "Leap seconds are rejected.",
    )
    to = TimeParameterField(
        source="end",
        required=False,
        help_text="The end of the period, by default now. Must be after `from`. Leap seconds are rejected.",
    )
    interval = ChoiceField(
        choices=Interval.choices,
        default=Interval.HOUR.value,
        help_text="The length of an interval. Days start at midnight UTC.",
    )


def requested_period(query: Mapping[str, Any]) -> Period:
    """Return the period that a validated `UsageQuery` asks for. Raise `ValidationError`.

    Not a part of the serializer, because the defaults depend on the time, and validated queries are cached.
    """
    interval = Interval(query["interval"])
    try:
        end = query.get("end") or timezone.now()
        start = query.get("start") or end - DEFAULT_PERIOD[interval]
        if start >= end:
            raise serializers.ValidationError({"from": "This must be before `to`, which is now by default."})
        if end - start > MAX_PERIOD[interval]:
            days = MAX_PERIOD[interval].days
            raise serializers.ValidationError({"from": f"With interval={interval}, a period has at most {days} days."})
        return Period.containing(start, end, interval)
    except OverflowError:
        raise serializers.ValidationError({"to": "The period must be within the years 1 to 9999."}) from None


class UsageCountsSerializer(serializers.Serializer[Counts]):
    admitted = serializers.IntegerField(help_text="Requests that counted against the quota.")
    rejected = serializers.IntegerField(help_text="Requests that were answered 429, because the quota was exceeded.")
    clientErrors = serializers.IntegerField(
        source="client_errors", help_text="Admitted requests that were answered 4xx."
    )
    serverErrors = serializers.IntegerField(
        source="server_errors", help_text="Admitted requests that were answered 5xx."
    )


class _IntervalSerializer(serializers.Serializer[Any]):
    at = serializers.DateTimeField(help_text="The start of the interval.")


class UsagePointSerializer(_IntervalSerializer, UsageCountsSerializer):
    """The usage in one interval."""


class _KeySerializer(serializers.Serializer[Any]):
    apiKeyId = IdField("key", source="api_key_id", allow_null=True, help_text=WHY_NULL)
    maskedKey = serializers.CharField(source="masked", help_text="The current secret, masked.")
    description = serializers.CharField(allow_null=True, help_text=WHY_NULL)


class UsageByKeySerializer(_KeySerializer, UsageCountsSerializer):
    """The usage of one key, in the usage of its workspace."""


class UsageSerializer(serializers.Serializer[Any]):
    """What the responses of apiKeyUsage and workspaceUsage share."""

    locals()["from"] = serializers.DateTimeField(  # a keyword of Python
        source="period.start", help_text="The start of the first interval."
    )
    to = serializers.DateTimeField(source="period.end", help_text="The end of the last interval.")
    interval = serializers.ChoiceField(source="period.interval", choices=Interval.choices)
    total = UsageCountsSerializer()
    points = UsagePointSerializer(many=True, help_text="Every interval of the period, the oldest first.")


class ApiKeyUsageSerializer(UsageSerializer):
    apiKeyId = IdField("key", source="api_key.pk")
    maskedKey = serializers.CharField(source="api_key.masked", help_text="The current secret, masked.")


class WorkspaceUsageSerializer(UsageSerializer):
    workspaceId = IdField("w", source="workspace.pk")
    apiKeys = UsageByKeySerializer(
        source="by_key",
        many=True,
        help_text="The keys that sent requests in the period, also revoked ones: those with the most requests, "
        f"admitted and rejected together, first. At most {MAX_KEYS_OF_USAGE}; `total` has the requests of all keys.",
    )
