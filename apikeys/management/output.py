import json
from datetime import UTC, datetime
from typing import Any

from apikeys.models import ApiKey
from workspaces.models import User


def as_json(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False)


def described(api_key: ApiKey) -> dict[str, Any]:
    """A key as the REST API has it."""
    return {
        "apiKeyId": api_key.pk,
        "description": api_key.description,
        "maskedKey": api_key.masked,
        "status": api_key.status,
        "createdAt": _time(api_key.created_at),
        "createdBy": _person(api_key.created_by),
        "lastUsedAt": _time(api_key.last_used_at),
        "expiresAt": _time(api_key.expires_at),
        "revokedAt": _time(api_key.revoked_at),
        "revokedBy": _person(api_key.revoked_by),
    }


def _time(time: datetime | None) -> str | None:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z") if time else None


def _person(user: User | None) -> dict[str, str] | None:
    return {"userId": user.pk, "name": user.name} if user else None
