"""Validates every response of the REST API in the tests against its OpenAPI document."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

from onehorizon.openapi import schema

# Optional properties of responses. A person's name and email depend on the token's scopes. The response to a rotation
# has `secret`, and to a repeated one `notice`.
OPTIONAL = {"ErrorBody": {"errors"}, "UserPrincipal": {"name", "email"}, "RotatedApiKey": {"secret", "notice"}}


def validate_response(method: str, path: str, response: Any) -> None:
    """Fail unless the OpenAPI document describes this response.

    The document must have its status, each of its headers, and all fields of its body. A response to an operation that
    is not in the document must be an error in the error format.
    """
    operation = operation_at(path, "GET" if method == "HEAD" else method)
    summary = f"{method} {path} → {response.status_code}"
    if operation is None:
        if response.status_code >= 400 and method != "HEAD":
            validate_body(summary, "ErrorBody", response.json())
        return
    assert str(response.status_code) in operation["responses"], f"{summary} is not in the OpenAPI document"
    documented = resolve(operation["responses"][str(response.status_code)])
    present = {name for name in schema()["components"]["headers"] if response.has_header(name)}
    assert "X-Request-Id" in present <= set(documented["headers"]), f"{summary} has the headers {present}"
    for name in present:
        header = resolve(documented["headers"][name])["schema"]
        value = int(response[name]) if header["type"] == "integer" else response[name]
        Draft202012Validator(header).validate(value)
    if response.status_code in (429, 503):
        assert "Retry-After" in present, summary
    if response.status_code == 401:
        assert "WWW-Authenticate" in present, summary
    if response.status_code == 201:
        assert "Location" in present, summary
        validate_location(summary, response)
    if method == "HEAD" or "content" not in documented:
        assert response.content == b"", summary
        return
    assert response["Content-Type"] == "application/json", summary
    validate_body(
        summary, documented["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2], response.json()
    )


def validate_request(component: str, body: Any) -> None:
    """Fail unless the component of the document permits this request body, which may have other fields too."""
    components = {"components": schema()["components"]}
    Draft202012Validator(
        {"$ref": f"#/components/schemas/{component}", **components},
        format_checker=Draft202012Validator.FORMAT_CHECKER,
    ).validate(body)


def validate_location(summary: str, response: Any) -> None:
    """Fail unless Location is the path of the object in the body, with the id of its workspace."""
    body, location = response.json(), response["Location"]
    object_id = body.get("taskId") or body.get("apiKeyId")
    assert operation_at(location, "GET") is not None, f"{summary} has the Location {location!r}"
    assert re.fullmatch(rf"/api/v1/workspaces/w_\w+/[a-z-]+/{object_id}", location), f"{summary}: {location!r}"


def validate_body(summary: str, component: str, body: Any) -> None:
    errors = [f"{error.json_path}: {error.message[:300]}" for error in validator(component).iter_errors(body)]
    assert not errors, f"{summary} does not match the OpenAPI document: {errors}"


@cache
def validator(component: str) -> Draft202012Validator:
    return Draft202012Validator(
        {"$ref": f"#/components/schemas/{component}", "components": strict(schema()["components"])},
        format_checker=Draft202012Validator.FORMAT_CHECKER,
    )


def strict(schema_part: Any) -> Any:
    """Return this part of the document, changed so that objects have no other properties."""
    if isinstance(schema_part, list):
        return [strict(item) for item in schema_part]
    if not isinstance(schema_part, dict):
        return schema_part
    closed = {name: strict(item) for name, item in schema_part.items()}
    if closed.get("type") == "object" and "properties" in closed:
        closed["additionalProperties"] = False
    return closed


def resolve(schema_part: dict[str, Any]) -> dict[str, Any]:
    """Return the component that this part refers to, or the part itself if it is not a reference."""
    if "$ref" not in schema_part:
        return schema_part
    _, _, kind, name = schema_part["$ref"].split("/")
    component: dict[str, Any] = schema()["components"][kind][name]
    return component


def operation_at(path: str, method: str) -> dict[str, Any] | None:
    path = path.partition("?")[0]
    for matches, operations in path_matchers():
        if matches(path):
            operation: dict[str, Any] | None = operations.get(method.lower())
            return operation
    return None


@cache
def path_matchers() -> list[tuple[Callable[[str], object], dict[str, Any]]]:
    return [
        (re.compile(re.sub(r"\{\w+\}", "[^/]+", path)).fullmatch, operations)
        for path, operations in schema()["paths"].items()
    ]
