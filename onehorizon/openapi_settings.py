"""Settings of drf-spectacular, which builds the OpenAPI document."""

from typing import Any

OPENAPI_SETTINGS: dict[str, Any] = {
    "OAS_VERSION": "3.1.1",
    "TITLE": "One Horizon",
    "DESCRIPTION": "A workspace's tasks, members and API keys. See the guide: https://onehorizon.ai/docs/api/.",
    "VERSION": "1",
    "CONTACT": {"name": "One Horizon", "url": "https://onehorizon.ai", "email": "security@onehorizon.ai"},
    "LICENSE": {"name": "MIT", "url": "https://opensource.org/license/mit"},
    "SERVERS": [{"url": "/"}],  # the installation that serves the document: no other may receive its keys
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "TAGS": [
        {"name": "ApiKeys", "description": "The API keys of a workspace. Only its owners and admins can manage them."},
        {"name": "Me", "description": "The principal of the request."},
        {"name": "Tasks", "description": "The tasks of a workspace."},
        {"name": "Workspaces", "description": "Workspaces, their members, and their usage."},
    ],
    "COMPONENT_SPLIT_PATCH": False,  # bodies of PATCH have serializers of their own
    "CAMELIZE_NAMES": True,
    "DISABLE_DOCSTRING_DESCRIPTIONS": True,
    "SORT_OPERATION_PARAMETERS": False,
    "ENUM_NAME_OVERRIDES": {
        "TaskStatus": "workspaces.models.TaskStatus",
        "TaskKind": "workspaces.models.TaskKind",
        "TaskScope": "workspaces.models.TaskScope",
        "TaskVisibility": "workspaces.models.TaskVisibility",
        "TaskContributionType": "workspaces.models.TaskContributionType",
        "Role": "workspaces.models.Role",
        "ApiKeyStatus": "apikeys.models.ApiKeyStatus",
        "UsageInterval": "apikeys.models.Interval",
    },
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "POSTPROCESSING_HOOKS": ["drf_spectacular.hooks.postprocess_schema_enums", "onehorizon.openapi.finish"],
}
