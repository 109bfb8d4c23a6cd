"""The OpenAPI 3.1 document of the REST API, for generators, linters and /api/docs.

Made of the serializers, of `onehorizon.operations`, and of what stands here: what every answer carries (RFC 6750,
RFC 9110, draft-ietf-httpapi-ratelimit-headers).
"""

from functools import cache
from typing import Any, cast

import orjson
from django.conf import settings
from django.http import HttpResponse
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from rest_framework.permissions import AllowAny
from rest_framework.request import Request

from apikeys.permissions import PersonRequired
from onehorizon.api import ApiView
from onehorizon.operations import LINKS, OPERATIONS, PATH_PARAMETERS, TAGS, Operation
from workspaces.access import Scopes

# What the API really answered, which a test asks it again: `answers` by operation and status, `bodies`, `refusals`.
EXAMPLES = orjson.loads((settings.BASE_DIR / "onehorizon/openapi_examples.json").read_bytes())

# ---- what every answer may be, and carries ----

HEADERS: dict[str, tuple[dict[str, Any], str]] = {
    "X-Request-Id": ({"type": "string"}, "The request's own id, or the X-Request-Id that was sent."),
    "RateLimit-Policy": ({"type": "string"}, "The limits: `q` requests in any `w` seconds. Where a quota applies."),
    "RateLimit": ({"type": "string"}, "What is left: `r` requests; `t` seconds until it grows. Where a quota applies."),
    "Retry-After": ({"type": "integer", "minimum": 1}, "Seconds to wait."),
    "WWW-Authenticate": ({"type": "string"}, "The challenge (RFC 6750)."),
    "Idempotent-Replayed": ({"type": "string", "const": "true"}, "An earlier request made the key."),
}
ALWAYS = ("X-Request-Id", "RateLimit-Policy", "RateLimit")
# By status: the name of the response, when it is answered, and the headers that it carries besides `ALWAYS`.
REFUSED: dict[int, tuple[str, str, tuple[str, ...]]] = {
    400: ("BadRequest", "The body or the query can't be used as sent; `errors` names the fields.", ()),
    401: ("Unauthorized", "No credentials, or not valid ones.", ("WWW-Authenticate",)),
    403: ("Forbidden", "The role or the scope is too small.", ("WWW-Authenticate",)),
    404: ("NotFound", "Absent, or another workspace's.", ()),
    406: ("NotAcceptable", "Answers are JSON, which Accept leaves out.", ()),
    409: ("Conflict", "The workspace has as many active keys as it may, or it is suspended.", ()),
    413: ("ContentTooLarge", "The body is larger than 1 MiB.", ()),
    415: ("UnsupportedMediaType", "The body isn't sent as application/json.", ()),
    422: ("IdempotencyKeyReused", "The Idempotency-Key was used with another body.", ()),
    429: ("TooManyRequests", "Over quota, or too many failed authentications from an address.", ("Retry-After",)),
    500: ("ServerError", "Something went wrong on our side.", ()),
    503: ("Unavailable", "The database is away for the moment.", ("Retry-After",)),
}
BY_EVERY_OPERATION = (400, 401, 406, 429, 500, 503)
ERROR = {
    "type": "object",
    "description": "How every refusal looks.",
    "required": ["code", "message"],
    "properties": {
        "code": {"type": "integer", "description": "The status."},
        "message": {"type": "string", "description": "One sentence."},
        "errors": {
            "type": "object",
            "description": "On 400, where fields are at fault: by field, as `contributors.0.userId`, what is wrong.",
            "additionalProperties": {"type": "array", "items": {"type": "string"}},
        },
    },
}


def _headers(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in (*ALWAYS, *names)}


def _refusal(status: int) -> dict[str, Any]:
    _, description, headers = REFUSED[status]
    body = {"schema": {"$ref": "#/components/schemas/ErrorBody"}, "example": EXAMPLES["refusals"][str(status)]}
    return {"description": description, "headers": _headers(*headers), "content": {"application/json": body}}


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


class Schema(AutoSchema):
    """DRF's DEFAULT_SCHEMA_CLASS: how drf-spectacular describes a view's operation."""

    @property
    def described(self) -> Operation:
        return OPERATIONS[type(self.view).__name__, getattr(self.view, "action", self.method.lower())]

    def is_excluded(self) -> bool:
        return isinstance(self.view, SchemaView)

    def _is_list_view(self, serializer: Any = None) -> bool:
        """A list is an object here, so that it can grow."""
        return False

    def get_operation_id(self) -> str:
        return self.described.id

    def get_tags(self) -> list[str]:
        return [self.described.tag]

    def get_summary(self) -> str:
        return self.described.summary

    def get_description(self) -> str:  # type: ignore[override]  # as drf-spectacular has it
        return self.described.description

    def get_override_parameters(self) -> list[Any]:
        query = [self.described.query] if self.described.query else []
        return [*query, *self.described.parameters]

    def get_request_serializer(self) -> Any:
        return self.described.body

    def get_response_serializers(self) -> Any:
        return self.described.answers

    def get_extensions(self) -> dict[str, Any]:
        """Generators call a body by this name."""
        return {"x-codegen-request-body-name": self.described.body_name} if self.described.body_name else {}

    def get_auth(self) -> list[dict[str, list[str]]]:
        scopes = cast(ApiView, self.view).scopes
        scope = scopes.read if self.method == "GET" else scopes.write
        oauth2: dict[str, list[str]] = {"oauth2": [scope.value] if scope else []}
        return [oauth2] if PersonRequired in self.view.permission_classes else [{"apiKey": []}, oauth2]

    def get_operation(self, *args: Any, **kwargs: Any) -> Any:
        operation = super().get_operation(*args, **kwargs)
        if operation is None:
            return None
        for status, response in operation["responses"].items():
            response["description"] = "Done." if status == "204" else self.described.summary + "."
            response["headers"] = _headers(*self.described.answer_headers.get(int(status), ()))
            if status != "204":
                response["content"]["application/json"]["example"] = EXAMPLES["answers"][self.described.id][status]
                if self.described.id in LINKS:
                    response["links"] = {
                        name: {"operationId": name, "parameters": parameters}
                        for name, parameters in LINKS[self.described.id].items()
                    }
        if self.described.body:
            operation["requestBody"]["content"]["application/json"]["example"] = EXAMPLES["bodies"][self.described.id]
            operation["requestBody"]["required"] = True
        for refused in sorted({*BY_EVERY_OPERATION, *self.described.refusals}):
            operation["responses"][str(refused)] = {"$ref": f"#/components/responses/{REFUSED[refused][0]}"}
        return operation


def finish(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """A hook of drf-spectacular's: the components of its own, and enums by their names in queries too."""
    components = result["components"]
    components["schemas"]["ErrorBody"] = ERROR
    components["responses"] = {name: _refusal(status) for status, (name, *_) in REFUSED.items()}
    components["headers"] = {
        name: {"description": description, "schema": schema} for name, (schema, description) in HEADERS.items()
    }
    components["securitySchemes"] = SECURITY_SCHEMES
    result["tags"] = [{"name": name, "description": description} for name, description in TAGS.items()]
    named = {tuple(each["enum"]): name for name, each in components["schemas"].items() if "enum" in each}
    for operations in result["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", []):
                if parameter["in"] == "path":
                    parameter["description"] = PATH_PARAMETERS[parameter["name"]]
                if parameter["name"] == "workspaceId":
                    parameter["example"] = "current"
                items = parameter["schema"].get("items", {})
                if name := named.get(tuple(items.get("enum", ()))):
                    parameter["schema"]["items"] = {"$ref": f"#/components/schemas/{name}"}
    return result


@cache
def schema() -> dict[str, Any]:
    """The document. It is the same for everyone, so it is made once a process."""
    generator = SchemaGenerator(urlconf="onehorizon.urls")  # type: ignore[no-untyped-call]
    return cast(dict[str, Any], generator.get_schema(public=True))  # type: ignore[no-untyped-call]


@cache
def _document() -> bytes:
    return orjson.dumps(schema())


class SchemaView(ApiView):
    """Anyone may read it. Who presents a key is counted, as anywhere else."""

    permission_classes = [AllowAny]
    scopes = Scopes(read=None, write=None)

    def get(self, request: Request) -> HttpResponse:
        return HttpResponse(_document(), content_type="application/json")
