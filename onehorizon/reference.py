"""The API reference at /api/docs: the OpenAPI document as a page, rendered on the server."""

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from typing import Any

from django.conf import settings
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.views.generic import TemplateView

from core.sites import site_url
from onehorizon.documents import NAMES, document, inline
from onehorizon.openapi import HEADERS_OF_EVERY_RESPONSE, schema

JsonSchema = dict[str, Any]

JSON = "application/json"
TITLES = {"ApiKeys": "API keys"}  # of tags whose name is not a word

_WORD = re.compile(r"(?<!^)(?=[A-Z])")


@dataclass(frozen=True)
class Field:
    """A property of an object, a header, or a parameter."""

    name: str
    type: SafeString
    description: SafeString
    is_required: bool = False


@dataclass(frozen=True)
class Parameter(Field):
    location: str = "query"
    value: str = ""  # to try the operation with
    values: tuple[str, ...] = ()  # if there are no others
    is_list: bool = False


@dataclass(frozen=True)
class Object:
    """A schema of the document that has properties."""

    name: str
    description: SafeString
    fields: list[Field]


@dataclass(frozen=True)
class Response:
    status: int
    phrase: str
    type: SafeString
    headers: list[str]  # besides those of every response
    example: str


@dataclass(frozen=True)
class Operation:
    id: str
    method: str
    path: str
    path_html: SafeString
    shell_path: SafeString  # with variables
    credentials: str  # the variable that has them
    summary: str
    description: SafeString
    allows_keys: bool
    scopes: list[str]
    parameters: list[Parameter]
    body: Object | None
    body_example: str
    shell_body: str
    responses: list[Response]
    errors: list[int]

    @property
    def required(self) -> list[Parameter]:
        return [item for item in self.parameters if item.is_required]

    @property
    def optional(self) -> list[Parameter]:
        return [item for item in self.parameters if not item.is_required]


@dataclass(frozen=True)
class Tag:
    id: str
    title: str
    description: SafeString
    operations: list[Operation]


@dataclass(frozen=True)
class Reference:
    scopes: dict[str, str]
    tags: list[Tag]
    objects: list[Object]
    errors: dict[int, SafeString]
    headers: list[Field]


def breakable(path: str) -> SafeString:
    """Return the path in HTML. Lines may break after its slashes."""
    return format_html_join(SafeString("/<wbr>"), "{}", ((part,) for part in path.split("/")))


def name_of(reference: str) -> str:
    return reference.rpartition("/")[2]


def component(kind: str, reference: str) -> JsonSchema:
    found: JsonSchema = schema()["components"][kind][name_of(reference)]
    return found


def resolved(value: JsonSchema) -> JsonSchema:
    """Return the schema with the keywords of the one that it refers to, if there is only one."""
    references = [value, *value.get("allOf", [])]
    targets = [component("schemas", item["$ref"]) for item in references if "$ref" in item]
    return {**targets[0], **value} if targets else value


def type_of(value: JsonSchema) -> SafeString:
    """Return a schema's type for people, with links to the objects on the page."""
    if "$ref" in value and "properties" in resolved(value):
        return format_html('<a href="#{0}">{0}</a>', name_of(value["$ref"]))
    value = resolved(value)
    if "oneOf" in value:
        return format_html_join(" or ", "{}", ((type_of(item),) for item in value["oneOf"]))
    if "const" in value:
        return format_html('<code translate="no">{}</code>', value["const"])
    names = value["type"] if isinstance(value["type"], list) else [value["type"]]
    if names == ["array"]:
        return format_html("array of {}", type_of(value["items"]))
    if names == ["object"]:
        return format_html("map of string to {}", type_of(value["additionalProperties"]))
    formats = {"string": value.get("format", "string")}
    return format_html_join(" or ", "{}", ((formats.get(name, name),) for name in names))


def values_of(value: JsonSchema) -> tuple[str, ...]:
    """Return the only values that the schema, or an item of its array, can have."""
    value = resolved(value)
    if value.get("type") == "boolean":
        return ("true", "false")
    return tuple(value.get("enum", ())) or (values_of(value["items"]) if "items" in value else ())


def rules_of(value: JsonSchema) -> Iterator[str]:
    """Yield sentences in Markdown about the values. Only the OpenAPI document has the patterns."""
    value = resolved(value)
    if (values := values_of(value)) and value.get("type") != "boolean":
        yield f"Values: {', '.join(f'`{item}`' for item in values)}."
    if "minimum" in value and "maximum" in value:
        yield f"From {value['minimum']:,} to {value['maximum']:,}."
    if "maxLength" in value:
        yield f"At most {value['maxLength']:,} characters."
    if "maxItems" in value:
        yield f"At most {value['maxItems']:,} items."
    if "default" in value:
        yield f"Default: `{value['default']}`."


def field_description(value: JsonSchema, description: str) -> SafeString:
    return inline(" ".join([description, *rules_of(value)]).strip())


def object_of(name: str) -> Object:
    value = component("schemas", name)
    required = value.get("required", [])
    fields = [
        Field(key, type_of(item), field_description(item, item.get("description", "")), key in required)
        for key, item in value["properties"].items()
    ]
    return Object(name, inline(value.get("description", "")), fields)


def parameter_of(value: JsonSchema) -> Parameter:
    return Parameter(
        name=value["name"],
        type=type_of(value["schema"]),
        description=field_description(value["schema"], value["description"]),
        is_required=value.get("required", False),
        location=value["in"],
        value=value.get("example", ""),
        values=values_of(value["schema"]),
        is_list=value["schema"].get("type") == "array",
    )


def response_of(status: str, value: JsonSchema) -> Response:
    content = value.get("content", {}).get(JSON)
    return Response(
        status=int(status),
        phrase=HTTPStatus(int(status)).phrase,
        type=type_of(content["schema"]) if content else SafeString(),
        headers=[name for name in value["headers"] if name not in HEADERS_OF_EVERY_RESPONSE],
        example=json.dumps(content["example"], indent=2, ensure_ascii=False) if content else "",
    )


def operation_of(path: str, method: str, value: JsonSchema) -> Operation:
    parameters = [parameter_of(item) for item in value.get("parameters", [])]
    examples = {item.name: item.value or f"${_WORD.sub('_', item.name).upper()}" for item in parameters}
    security = {name: scopes for requirement in value["security"] for name, scopes in requirement.items()}
    body = value.get("requestBody", {}).get("content", {}).get(JSON)
    example = body["example"] if body else None
    responses = value["responses"].items()
    return Operation(
        id=value["operationId"],
        method=method.upper(),
        path=path,
        path_html=breakable(path),
        shell_path=breakable(re.sub(r"\{(\w+)\}", lambda match: examples[match[1]], path)),
        credentials="ONE_API_KEY" if "apiKey" in security else "ACCESS_TOKEN",
        summary=value["summary"],
        description=inline(value["description"]),
        allows_keys="apiKey" in security,
        scopes=security["oauth2"],
        parameters=parameters,
        body=object_of(name_of(body["schema"]["$ref"])) if body else None,
        body_example=json.dumps(example, indent=2) if body else "",
        shell_body=shlex.quote(json.dumps(example)) if body else "",
        responses=[response_of(status, item) for status, item in responses if "$ref" not in item],
        errors=sorted(int(status) for status, item in responses if "$ref" in item),
    )


@cache
def reference() -> Reference:
    """Return the content of the page. Each process keeps it, because it is the same for all users."""
    openapi = schema()
    components = openapi["components"]
    items = [(path, method, value) for path, methods in openapi["paths"].items() for method, value in methods.items()]
    errors = {
        int(status): item["$ref"]
        for *_, value in items
        for status, item in value["responses"].items()
        if "$ref" in item
    }
    operations = [(value["tags"], operation_of(path, method, value)) for path, method, value in items]
    bodies = {operation.body.name for _, operation in operations if operation.body}
    names = [name for name, value in components["schemas"].items() if "properties" in value and name not in bodies]
    return Reference(
        scopes=settings.OAUTH2_PROVIDER["SCOPES"],
        tags=[
            Tag(
                id=f"tag-{tag['name']}",
                title=TITLES.get(tag["name"], tag["name"]),
                description=inline(tag["description"]),
                operations=[operation for tags, operation in operations if tag["name"] in tags],
            )
            for tag in openapi["tags"]
        ],
        objects=[object_of(name) for name in names],
        errors={status: inline(component("responses", errors[status])["description"]) for status in sorted(errors)},
        headers=[
            Field(name, type_of(value["schema"]), inline(value["description"]))
            for name, value in components["headers"].items()
        ],
    )


class ReferenceView(TemplateView):
    """The API reference. It is public, and reads neither the session nor the database."""

    template_name = "api_docs.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(
            reference=reference(),
            documents=[document(name) for name in NAMES],
            site=site_url(self.request),
            **kwargs,
        )
