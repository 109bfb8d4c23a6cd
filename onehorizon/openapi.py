"""The OpenAPI 3.1 document of the REST API, for generators, linters and /api/docs.

Each view describes its own operations with `@extend_schema`. This module adds what they share: error responses,
headers and security (RFC 6750, RFC 9110, draft-ietf-httpapi-ratelimit-headers), examples and links.
"""

from functools import cache
from threading import Lock
from typing import Any, cast

import orjson
from django.conf import settings
from django.http import HttpResponse
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ResolvedComponent
from drf_spectacular.utils import extend_schema
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.serializers import ListSerializer

from apikeys.permissions import PersonRequired
from workspaces.access import DEFAULT_SCOPES, Scope, Scopes
from workspaces.api import ApiView
from workspaces.api_fields import LineField
from workspaces.ids import id_pattern
from workspaces.serializers import ErrorBodySerializer

# Real data of the API, which a test compares with new responses: `responses` by operation and status, request `bodies`
# by operation, `errors` by status.
EXAMPLES = orjson.loads((settings.BASE_DIR / "onehorizon/openapi_examples.json").read_bytes())

# ---- error responses and headers ----

HEADERS: dict[str, dict[str, Any]] = {
    "X-Request-Id": {
        "description": "The id of the request: the X-Request-Id that was sent, or a new one.",
        "schema": {"type": "string"},
    },
    "RateLimit-Policy": {
        "description": "The limits: `q` requests in any `w` seconds. Only if the request counts against a quota.",
        "schema": {"type": "string"},
    },
    "RateLimit": {
        "description": "The remaining requests `r`, and the seconds `t` until `r` grows. Only if the request counts "
        "against a quota.",
        "schema": {"type": "string"},
    },
    "Deprecation": {
        "description": "When a rotation replaced the secret of this request (RFC 9745). Only for a previous secret.",
        "schema": {"type": "string"},
    },
    "Sunset": {
        "description": "When the secret of this request stops working (RFC 8594). Only for a previous secret.",
        "schema": {"type": "string"},
    },
    "Link": {
        "description": "The guide to rotation, with the relation `deprecation`. Only for a previous secret.",
        "schema": {"type": "string"},
    },
    "Location": {
        "description": "The path of the new object, with the workspace's id.",
        "schema": {"type": "string", "format": "uri-reference"},
    },
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}},
    "WWW-Authenticate": {"description": "The challenge (RFC 6750).", "schema": {"type": "string"}},
}
HEADERS_OF_EVERY_RESPONSE = ("X-Request-Id", "RateLimit-Policy", "RateLimit", "Deprecation", "Sunset", "Link")
# Status to the name of the response component, its description, and its headers besides those of every response.
ERRORS: dict[int, tuple[str, str, tuple[str, ...]]] = {
    400: ("BadRequest", "The body or the query is invalid; `errors` has the messages by field.", ()),
    401: ("Unauthorized", "No credentials, or invalid ones.", ("WWW-Authenticate",)),
    403: (
        "Forbidden",
        "The role or scope is not sufficient, or the request came over plain HTTP.",
        ("WWW-Authenticate",),
    ),
    404: ("NotFound", "The object does not exist, or you don't have access.", ()),
    406: ("NotAcceptable", "The Accept header excludes application/json.", ()),
    408: ("RequestTimeout", "The body did not arrive within 10 seconds. Nothing was changed.", ()),
    409: (
        "Conflict",
        "The key can't be created, because the workspace has reached its limit of active keys, or can't be rotated, "
        "because it is revoked or expired. Or the workspace is suspended.",
        (),
    ),
    413: ("ContentTooLarge", "The body is larger than 1 MiB.", ()),
    415: ("UnsupportedMediaType", "The Content-Type is not application/json, or the body has a Content-Encoding.", ()),
    422: ("IdempotencyKeyReused", "The Idempotency-Key was used before, with another body.", ()),
    429: ("TooManyRequests", "Over the quota, or too many failed authentications from a client IP.", ("Retry-After",)),
    500: ("ServerError", "Something went wrong on our side.", ()),
    503: ("Unavailable", "The database is temporarily unavailable.", ("Retry-After",)),
}
ERRORS_OF_EVERY_OPERATION = {400, 401, 403, 406, 408, 413, 429, 500, 503}  # any request may have a body

# ---- authentication ----

SECURITY_SCHEMES = {
    "apiKey": {"type": "http", "scheme": "bearer", "description": "A workspace's API key, `one_…`."},
    "oauth2": {
        "type": "oauth2",
        "description": "A person's access token.",
        "flows": {
            "authorizationCode": {
                "authorizationUrl": "/app/auth/authorize",
                "tokenUrl": "/app/auth/token",
                "refreshUrl": "/app/auth/token",
                "scopes": settings.OAUTH2_PROVIDER["SCOPES"],
            }
        },
    },
}

# ---- links and path parameters ----

# OpenAPI links: operation to the operations that can follow it, and where the response has their parameters.
_SAME_WORKSPACE = {"workspaceId": "$request.path.workspaceId"}
_THIS_TASK = {"workspaceId": "$response.body#/workspaceId", "taskId": "$response.body#/taskId"}
_FIRST_TASK = _SAME_WORKSPACE | {"taskId": "$response.body#/tasks/0/taskId"}
_THIS_KEY = _SAME_WORKSPACE | {"apiKeyId": "$response.body#/apiKeyId"}
_FIRST_KEY = _SAME_WORKSPACE | {"apiKeyId": "$response.body#/apiKeys/0/apiKeyId"}
_FIRST_WORKSPACE = {"workspaceId": "$response.body#/workspaces/0/workspaceId"}
LINKS: dict[str, dict[str, dict[str, str]]] = {
    "listWorkspaces": dict.fromkeys(
        ("fetchWorkspace", "listMembers", "listTasks", "createTask", "workspaceUsage"), _FIRST_WORKSPACE
    ),
    "listMembers": {"listTasks": _SAME_WORKSPACE | {"userId": "$response.body#/members/0/userId"}},
    "listTasks": {
        "listTasks": _SAME_WORKSPACE | {"cursor": "$response.body#/nextCursor"},  # the next page
        **dict.fromkeys(("fetchTask", "updateTask", "deleteTask"), _FIRST_TASK),
    },
    "createTask": dict.fromkeys(("fetchTask", "updateTask", "deleteTask"), _THIS_TASK),
    "updateTask": dict.fromkeys(("fetchTask", "deleteTask"), _THIS_TASK),
    "listApiKeys": dict.fromkeys(
        ("fetchApiKey", "updateApiKey", "rotateApiKey", "revokeApiKey", "apiKeyUsage"), _FIRST_KEY
    ),
    "createApiKey": dict.fromkeys(("fetchApiKey", "updateApiKey", "rotateApiKey", "revokeApiKey"), _THIS_KEY),
    "updateApiKey": dict.fromkeys(("fetchApiKey", "rotateApiKey", "revokeApiKey"), _THIS_KEY),
    "rotateApiKey": dict.fromkeys(("fetchApiKey", "endPreviousSecret", "revokeApiKey"), _THIS_KEY),
}
# The description and the pattern of each.
PATH_PARAMETERS = {
    "workspaceId": (
        "An id, or `current`: the workspace of the key, or the one that the person chose last.",
        f"^(current|{id_pattern('w')})$",
    ),
    "taskId": ("The `taskId` of a task.", f"^{id_pattern('tsk')}$"),
    "apiKeyId": ("The `apiKeyId` of a key.", f"^{id_pattern('key')}$"),
}


def _example(*path: str) -> dict[str, Any]:
    """Return `example` with the entry of `EXAMPLES` at this path, or nothing without an entry."""
    entry = EXAMPLES
    for name in path:
        entry = entry.get(name, {})
    return {"example": entry} if entry else {}


class Schema(AutoSchema):
    """DRF's DEFAULT_SCHEMA_CLASS: adds the parts that operations share.

    The error responses of an operation follow from its path, body and scope. A view declares only the others (409, 422)
    in its `responses`.
    """

    @property
    def scope(self) -> Scope | None:
        """The scope that the operation requires, if any."""
        scopes: Scopes = getattr(self.view, "scopes", DEFAULT_SCOPES)
        return scopes.read if self.method == "GET" else scopes.write

    def _is_list_view(self, serializer: Any = None) -> bool:
        """Return False: a list is an object with a field for its items, so that fields can be added later."""
        return False

    def _insert_field_validators(self, field: Any, schema: dict[str, Any]) -> None:
        """Add the constraints of a field that are not Django's validators.

        drf-spectacular's extension of a field would run before this private method, which then describes a text that
        has a pattern and may be blank as a `oneOf`. Generators create a separate type for that.
        """
        super()._insert_field_validators(field, schema)  # type: ignore[no-untyped-call]  # drf-spectacular
        if pattern := getattr(field, "pattern", None):
            schema["pattern"] = pattern
        if pattern := getattr(field, "forbidden_pattern", None):
            schema["not"] = {"pattern": pattern}
        if isinstance(field, LineField):
            schema["minLength"] = 1
        if isinstance(field, ListSerializer) and (limit := getattr(field, "max_length", None)):
            schema["maxItems"] = limit

    def get_auth(self) -> list[dict[str, list[str]]]:
        oauth2: dict[str, list[str]] = {"oauth2": [self.scope.value] if self.scope else []}
        return [oauth2] if PersonRequired in self.view.permission_classes else [{"apiKey": []}, oauth2]

    def get_operation(self, *args: Any, **kwargs: Any) -> Any:
        operation = super().get_operation(*args, **kwargs)
        if operation is None:
            return None
        if "requestBody" in operation:
            if self.method == "PATCH":  # elsewhere a body is optional if all of its fields are
                operation["requestBody"]["required"] = True
            content = operation["requestBody"]["content"]["application/json"]
            content |= _example("bodies", operation["operationId"])
        declared = operation["responses"]
        errors = self._shared_errors(operation) | {int(status) for status in declared if status >= "400"}
        operation["responses"] = {
            status: self._success(operation, status, response)
            for status, response in declared.items()
            if status < "400"
        } | {str(status): self._error(status) for status in sorted(errors)}
        return operation

    def _shared_errors(self, operation: dict[str, Any]) -> set[int]:
        errors = set(ERRORS_OF_EVERY_OPERATION)
        if "{" in self.path:
            errors.add(404)
        if "requestBody" in operation:
            errors.add(415)
        return errors

    def _success(self, operation: dict[str, Any], status: str, response: dict[str, Any]) -> dict[str, Any]:
        """Add the headers to a response, and the example and links of its operation."""
        location = {"Location": HEADERS["Location"]} if status == "201" else {}
        response["headers"] = self._headers(location | response.get("headers", {}))
        if status == "204":
            return response | {"description": "Success, without a body."}
        operation_id = operation["operationId"]
        if "summary" in operation:
            response["description"] = f"{operation['summary']}."
        if content := response.get("content"):
            content["application/json"] |= _example("responses", operation_id, status)
        if operation_id in LINKS:
            response["links"] = {
                name: {"operationId": name, "parameters": parameters}
                for name, parameters in LINKS[operation_id].items()
            }
        return response

    def _error(self, status: int) -> dict[str, str]:
        name, description, headers = ERRORS[status]
        content = {
            "schema": self.resolve_serializer(ErrorBodySerializer, "response").ref,
            **_example("errors", str(status)),
        }
        response = {
            "description": description,
            "headers": self._headers({name: HEADERS[name] for name in headers}),
            "content": {"application/json": content},
        }
        return self._component(ResolvedComponent.RESPONSE, name, response)

    def _headers(self, specific: dict[str, Any]) -> dict[str, Any]:
        headers = {name: HEADERS[name] for name in HEADERS_OF_EVERY_RESPONSE} | specific
        return {name: self._component(ResolvedComponent.HEADER, name, header) for name, header in headers.items()}

    def _component(self, kind: str, name: str, schema: dict[str, Any]) -> dict[str, str]:
        """Add a component to the document unless it is there, and return a reference to it."""
        component = ResolvedComponent(name, kind, schema, object=name)  # type: ignore[no-untyped-call]  # drf-spectacular
        self.registry.register_on_missing(component)
        return component.ref


def finish(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Add the security schemes, describe path parameters, and refer to named enums in query parameters.

    A postprocessing hook of drf-spectacular.
    """
    components = result["components"]
    components["securitySchemes"] = SECURITY_SCHEMES
    enums = {tuple(schema["enum"]): name for name, schema in components["schemas"].items() if "enum" in schema}
    for operations in result["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", []):
                if parameter["in"] == "path" and parameter["name"] in PATH_PARAMETERS:
                    parameter["description"], parameter["schema"]["pattern"] = PATH_PARAMETERS[parameter["name"]]
                if parameter["name"] == "workspaceId":
                    parameter["example"] = "current"
                values = parameter["schema"].get("items", parameter["schema"])
                if name := enums.get(tuple(values.get("enum", ()))):
                    for keyword in values.keys() - {"default"}:
                        del values[keyword]
                    values["$ref"] = f"#/components/schemas/{name}"
    return result


_generating = Lock()  # drf-spectacular fails if two threads load its extensions at the same time


@cache
def schema() -> dict[str, Any]:
    """Return the document. Each process keeps it, because it is the same for all clients."""
    generator = SchemaGenerator(urlconf="onehorizon.urls")  # type: ignore[no-untyped-call]  # drf-spectacular
    with _generating:
        return cast(dict[str, Any], generator.get_schema(public=True))  # type: ignore[no-untyped-call]  # the same


@cache
def _document() -> bytes:
    return orjson.dumps(schema())


class SchemaView(ApiView):
    """The OpenAPI document. It is public; a request with a key counts against the quota."""

    permission_classes = [AllowAny]
    scopes = Scopes(read=None, write=None)

    @extend_schema(exclude=True)
    def get(self, request: Request) -> HttpResponse:
        return HttpResponse(_document(), content_type="application/json")
