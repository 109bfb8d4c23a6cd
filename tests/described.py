"""Holds every answer of the REST API that the tests get against its OpenAPI document."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

from onehorizon.openapi import schema

OPTIONAL = {"errors", "name", "email"}  # the last two of a person's own, where their scopes allow


def require_described(method: str, path: str, response: Any) -> None:
    """Fails unless the document has this answer: its status, each of its headers, and its body with no field too few
    or too many. Where it has no such operation, the answer must be a refusal in the envelope.
    """
    operation = operation_at(path, "GET" if method == "HEAD" else method)
    answer = f"{method} {path} → {response.status_code}"
    if operation is None:
        if response.status_code >= 400 and method != "HEAD":
            complain(answer, "ErrorBody", response.json())
        return
    assert str(response.status_code) in operation["responses"], f"{answer} is not in the OpenAPI document"
    described = resolve(operation["responses"][str(response.status_code)])
    carried = {name for name in schema()["components"]["headers"] if response.has_header(name)}
    assert "X-Request-Id" in carried <= set(described["headers"]), f"{answer} carries {carried}"
    for name in carried:
        header = resolve(described["headers"][name])["schema"]
        value = int(response[name]) if header["type"] == "integer" else response[name]
        Draft202012Validator(header).validate(value)
    if response.status_code in (429, 503):
        assert "Retry-After" in carried, answer
    if response.status_code == 401:
        assert "WWW-Authenticate" in carried, answer
    if method == "HEAD" or "content" not in described:
        assert response.content == b"", answer
        return
    assert response["Content-Type"] == "application/json", answer
    complain(answer, described["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2], response.json())


def complain(answer: str, component: str, body: Any) -> None:
    wrong = [f"{error.json_path}: {error.message[:300]}" for error in validator(component).iter_errors(body)]
    assert not wrong, f"{answer} is not as the OpenAPI document has it: {wrong}"


@cache
def validator(component: str) -> Draft202012Validator:
    return Draft202012Validator(
        {"$ref": f"#/components/schemas/{component}", "components": strict(schema()["components"])},
        format_checker=Draft202012Validator.FORMAT_CHECKER,
    )


def strict(described: Any) -> Any:
    """The same, with objects that have just their properties, and all of them."""
    if isinstance(described, list):
        return [strict(each) for each in described]
    if not isinstance(described, dict):
        return described
    made = {name: strict(each) for name, each in described.items()}
    if made.get("type") == "object" and "properties" in made:
        made["additionalProperties"] = False
        made["required"] = [
            name for name in made["properties"] if name not in OPTIONAL or name in made.get("required", [])
        ]
    return made


def resolve(described: dict[str, Any]) -> dict[str, Any]:
    """Follows a reference to a component."""
    if "$ref" not in described:
        return described
    _, _, kind, name = described["$ref"].split("/")
    found: dict[str, Any] = schema()["components"][kind][name]
    return found


def operation_at(path: str, method: str) -> dict[str, Any] | None:
    path = path.partition("?")[0]
    for matches, operations in addresses():
        if matches(path):
            found: dict[str, Any] | None = operations.get(method.lower())
            return found
    return None


@cache
def addresses() -> list[tuple[Callable[[str], object], dict[str, Any]]]:
    return [
        (re.compile(re.sub(r"\{\w+\}", "[^/]+", address)).fullmatch, operations)
        for address, operations in schema()["paths"].items()
    ]
