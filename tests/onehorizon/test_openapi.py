"""The OpenAPI document is complete, and its examples are real responses."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from datetime import datetime
from typing import Any

import pytest
from django.db import OperationalError
from django.test import RequestFactory
from jsonschema import Draft202012Validator

from apikeys.models import ApiKey, ApiKeyUsage
from core.requests import BodyTooSlow
from onehorizon.checks import api_routes
from onehorizon.errors import api_error_response
from onehorizon.openapi import EXAMPLES, schema
from tests.described import OPTIONAL, operation_at, resolve, validate_body, validate_request, validator
from tests.helpers import Api, make_key, make_token, make_user, make_workspace
from workspaces import quota

IDS = {
    "whoAmI", "listWorkspaces", "fetchWorkspace", "listMembers", "listTasks", "createTask", "fetchTask", "updateTask",
    "deleteTask", "listApiKeys", "createApiKey", "fetchApiKey", "updateApiKey", "revokeApiKey",
    "rotateApiKey", "endPreviousSecret", "apiKeyUsage", "workspaceUsage",
}  # fmt: skip


def operations() -> list[dict[str, Any]]:
    return [operation for path in schema()["paths"].values() for operation in path.values()]


# ---- the document ----


@pytest.mark.django_db
def test_the_document_needs_no_authentication() -> None:
    response = Api().get("/openapi.json")

    assert response.status_code == 200
    assert response["Content-Type"] == "application/json"
    assert response.json() == schema()
    assert response.json()["openapi"].startswith("3.1.")


@pytest.mark.django_db
def test_fetching_the_document_with_a_key_counts_against_the_quota(api: Api) -> None:
    assert api.get("/openapi.json")["RateLimit"].startswith('"standard";r=199;')
    assert Api("one_wrong").get("/openapi.json").status_code == 401


def test_clients_send_their_credentials_to_the_installation_that_served_the_document() -> None:
    flow = schema()["components"]["securitySchemes"]["oauth2"]["flows"]["authorizationCode"]
    urls = [server["url"] for server in schema()["servers"]]
    urls += [url for name, url in flow.items() if name.endswith("Url")]

    assert urls == ["/", "/app/auth/authorize", "/app/auth/token", "/app/auth/token"]


def test_every_operation_has_its_operation_id() -> None:
    assert {operation["operationId"] for operation in operations()} == IDS
    assert len(operations()) == len(IDS)
    assert {tag for operation in operations() for tag in operation["tags"]} == {"Tasks", "ApiKeys", "Workspaces", "Me"}


def test_every_operation_is_described_with_examples() -> None:
    """Without them the document would still be generated, but incomplete."""
    missing = []
    for operation in operations():
        operation_id = operation["operationId"]
        if not operation.get("summary"):
            missing.append(f"{operation_id}: summary")
        for parameter in operation.get("parameters", []):
            if parameter["in"] == "path" and not parameter.get("description"):
                missing.append(f"{operation_id}: description of {parameter['name']}")
        bodies = {"body": operation["requestBody"]} if "requestBody" in operation else {}
        successes = {status: response for status, response in operation["responses"].items() if status < "400"}
        for name, described in (bodies | successes).items():
            if any("example" not in content for content in described.get("content", {}).values()):
                missing.append(f"{operation_id}: example of {name}")

    assert missing == []


def test_every_route_is_described() -> None:
    routes = {re.sub(r"<[^>]*>", "{}", f"/{route}") for route in api_routes() if "^" not in route}

    assert {re.sub(r"\{\w+\}", "{}", path) for path in schema()["paths"]} == routes - {"/api/v1/openapi.json"}


def test_enums_have_names() -> None:
    components = schema()["components"]["schemas"]
    task = components["Task"]["properties"]

    for field, name in {"status": "TaskStatus", "scope": "TaskScope", "kind": "TaskKind"}.items():
        assert components[name]["enum"]
        assert task[field]["$ref"] == f"#/components/schemas/{name}"
        (query,) = [parameter for parameter in list_tasks_operation()["parameters"] if parameter["name"] == field]
        assert query["schema"]["items"] == {"$ref": f"#/components/schemas/{name}"}
    assert components["TaskContributionType"]["enum"] == ["assignee", "reviewer"]


def list_tasks_operation() -> dict[str, Any]:
    operation = operation_at("/api/v1/workspaces/current/tasks", "GET")
    assert operation is not None
    return operation


def test_both_ways_to_authenticate_are_described_with_their_scopes() -> None:
    schemes = schema()["components"]["securitySchemes"]

    assert schemes["apiKey"]["scheme"] == "bearer"
    available_scopes = schemes["oauth2"]["flows"]["authorizationCode"]["scopes"]
    for operation in operations():
        schemes = {name: scopes for requirement in operation["security"] for name, scopes in requirement.items()}
        assert set(schemes["oauth2"]) <= set(available_scopes)
        assert ("apiKey" in schemes) == (operation["tags"] != ["ApiKeys"])
    assert {
        name: scopes for requirement in list_tasks_operation()["security"] for name, scopes in requirement.items()
    } == {
        "apiKey": [],
        "oauth2": ["workspace:read"],
    }


def test_bodies_have_names_for_code_generators() -> None:
    names = {
        operation["operationId"]: operation["x-codegen-request-body-name"]
        for operation in operations()
        if "requestBody" in operation
    }

    assert names == {
        "createTask": "task",
        "updateTask": "task",
        "createApiKey": "apiKey",
        "updateApiKey": "apiKey",
        "rotateApiKey": "rotation",
    }


def test_only_a_rotation_needs_no_body() -> None:
    assert [
        operation["operationId"]
        for operation in operations()
        if "requestBody" in operation and not operation["requestBody"].get("required")
    ] == ["rotateApiKey"]


def response_schemas() -> dict[str, dict[str, Any]]:
    """Return the schemas of objects in responses, by name, including those within others."""
    names: set[str] = set()

    def add(part: Any) -> None:
        for name in re.findall(r'"#/components/schemas/(\w+)"', json.dumps(part)):
            if name not in names:
                names.add(name)
                add(schema()["components"]["schemas"][name])

    add([resolve(response) for operation in operations() for response in operation["responses"].values()])
    return {
        name: component
        for name, component in schema()["components"]["schemas"].items()
        if name in names and "properties" in component
    }


def test_responses_have_all_properties() -> None:
    """A property that is always present is required, or clients would have to check for it."""
    for name, component in response_schemas().items():
        assert set(component["properties"]) - set(component["required"]) == OPTIONAL.get(name, set()), name


def test_requests_and_responses_have_schemas_of_their_own() -> None:
    """In OpenAPI 3.1, `required` applies to read-only properties of requests too."""
    bodies = {
        operation["operationId"]: operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
        for operation in operations()
        if "requestBody" in operation
    }

    assert {operation: ref.rpartition("/")[2] for operation, ref in bodies.items()} == {
        "createTask": "NewTask",
        "updateTask": "TaskChanges",
        "createApiKey": "NewApiKey",
        "updateApiKey": "ApiKeyChanges",
        "rotateApiKey": "ApiKeyRotation",
    }
    assert not {"NewTask", "TaskChanges", "NewApiKey", "ApiKeyChanges", "ApiKeyRotation"} & response_schemas().keys()
    assert "readOnly" not in json.dumps(schema())


def test_fetched_objects_can_be_sent_back() -> None:
    task, api_key = (EXAMPLES["responses"][operation]["200"] for operation in ("fetchTask", "fetchApiKey"))

    validate_request("NewTask", task)
    validate_request("TaskChanges", task)
    validate_request("ApiKeyChanges", api_key)
    validate_request("ApiKeyRotation", api_key)


def links() -> list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]]:
    """Return each link with its operation and its response."""
    return [
        (link, operation, response)
        for operation in operations()
        for response in map(resolve, operation["responses"].values())
        for link in response.get("links", {}).values()
    ]


def test_a_created_object_links_to_its_operations() -> None:
    pairs = {(operation["operationId"], link["operationId"]) for link, operation, _ in links()}

    assert pairs >= {("createTask", target) for target in ("fetchTask", "updateTask", "deleteTask")}
    assert pairs >= {
        ("createApiKey", target) for target in ("fetchApiKey", "updateApiKey", "rotateApiKey", "revokeApiKey")
    }
    assert ("rotateApiKey", "endPreviousSecret") in pairs
    assert pairs >= {("listTasks", "listTasks"), ("listTasks", "fetchTask"), ("listApiKeys", "fetchApiKey")}


def test_the_expressions_and_parameters_of_links_exist() -> None:
    parameters_by_operation = {
        operation["operationId"]: operation["parameters"] for operation in operations() if "parameters" in operation
    }

    for link, operation, response in links():
        parameters = {parameter["name"]: parameter for parameter in parameters_by_operation[link["operationId"]]}
        assert {name for name, parameter in parameters.items() if parameter["in"] == "path"} <= set(link["parameters"])
        assert set(link["parameters"]) <= set(parameters)
        for expression in link["parameters"].values():
            source, _, pointer = expression.partition("#/") if "#" in expression else expression.rpartition(".")
            if source == "$response.body":
                value = response["content"]["application/json"]["example"]
                for step in pointer.split("/"):
                    value = value[int(step) if step.isdecimal() else step]
            else:
                assert source == "$request.path"
                assert pointer in {parameter["name"] for parameter in parameters_by_operation[operation["operationId"]]}


def test_a_response_that_does_not_match_the_document_fails() -> None:
    task = EXAMPLES["responses"]["fetchTask"]["200"]
    assert not list(validator("Task").iter_errors(task))

    for wrong in (
        task | {"secret": "more than it says"},
        {name: value for name, value in task.items() if name != "status"},
        task | {"status": "lost"},
        task | {"createdAt": "yesterday"},
        task | {"title": None},
    ):
        with pytest.raises(AssertionError, match="does not match the OpenAPI document"):
            validate_body("GET", "Task", wrong)


# ---- examples ----


class Recording:
    """Sends requests. Records responses by operation and status, errors by status, and request bodies by operation."""

    def __init__(self) -> None:
        self.responses: dict[str, dict[str, Any]] = defaultdict(dict)
        self.bodies: dict[str, Any] = {}
        self.errors: dict[str, Any] = {}

    def request(self, api: Api, method: str, path: str, body: Any = None, **options: Any) -> Any:
        response = api.request(method, path, body, **options)
        operation = operation_at(f"/api/v1{path}", method)
        assert operation is not None
        if response.status_code >= 400:
            self.errors[str(response.status_code)] = response.json()
        elif response.status_code != 204:
            self.responses[operation["operationId"]][str(response.status_code)] = response.json()
            if body is not None:
                self.bodies[operation["operationId"]] = body
        return response


def record_requests() -> Recording:
    owner, member = make_user("owner"), make_user("member")
    workspace = make_workspace(owner, member=member)
    recording, tasks = Recording(), "/workspaces/current/tasks"
    api, person = Api(make_key(workspace)[1]), Api(make_token(owner))
    recording.request(api, "GET", "/me")
    recording.request(api, "GET", "/workspaces")
    recording.request(api, "GET", "/workspaces/current")
    recording.request(api, "GET", "/workspaces/current/members")
    task = recording.request(api, "POST", tasks, {"title": "Ship the billing page", "status": "planned"}).json()
    # Not recorded: people who try the example of a body have no such members.
    people = {"userId": member.pk, "contributors": [{"userId": owner.pk, "type": "reviewer"}]}
    api.patch(f"{tasks}/{task['taskId']}", people)
    recording.request(api, "GET", tasks)
    recording.request(api, "GET", f"{tasks}/{task['taskId']}")
    recording.request(api, "PATCH", f"{tasks}/{task['taskId']}", {"status": "in_progress"})
    keys = "/workspaces/current/api-keys"
    idempotent = {"headers": {"Idempotency-Key": "deploys-2026-11"}}
    key = recording.request(
        person, "POST", keys, {"description": "Deploys", "expiresAt": "2099-12-31T23:59:59Z"}, **idempotent
    ).json()
    recording.request(
        person, "POST", keys, {"description": "Deploys", "expiresAt": "2099-12-31T23:59:59Z"}, **idempotent
    )
    recording.request(person, "PATCH", f"{keys}/{key['apiKeyId']}", {"description": "Deploys, production"})
    Api(key["secret"]).get("/me")  # so that the previous secret was used
    recording.request(person, "POST", f"{keys}/{key['apiKeyId']}/rotate", {"overlapSeconds": 3600})
    recording.request(person, "GET", f"{keys}/{key['apiKeyId']}")
    recording.request(person, "GET", keys)
    hours = [int(datetime.fromisoformat(f"2026-11-23T{hour}:00:00Z").timestamp()) for hour in ("02", "03")]
    nightly = ApiKey.objects.get(description="CI, production")
    counts = {(nightly.pk, hours[1]): (180, 24, 2, 0), (key["apiKeyId"], hours[0]): (12, 0, 1, 0)}
    ApiKeyUsage.objects.add(counts | {(key["apiKeyId"], hours[1]): (20, 3, 0, 0)})
    night = "from=2026-11-23T02:00:00Z&to=2026-11-23T04:00:00Z"
    recording.request(person, "GET", f"{keys}/{key['apiKeyId']}/usage?{night}")
    recording.request(person, "GET", f"/workspaces/current/usage?{night}")

    recording.request(person, "POST", keys, {"description": "Another"}, **idempotent)  # 422
    recording.request(api, "POST", tasks, {"title": "", "status": "done"})  # 400
    recording.request(Api("one_nobody's"), "GET", "/me")  # 401
    recording.request(Api(make_token(owner, "openid")), "GET", tasks)  # 403
    recording.request(api, "GET", f"{tasks}/tsk_1")  # 404
    recording.request(api, "GET", tasks, headers={"Accept": "text/html"})  # 406
    for _ in range(18):
        make_key(workspace)
    recording.request(person, "POST", keys, {"description": "One more"})  # 409
    recording.request(api, "POST", tasks, "x" * 1024 * 1024)  # 413
    recording.request(api, "POST", tasks, data="title=Ship", content_type="application/x-www-form-urlencoded")  # 415
    for _ in range(40):
        quota.admit(workspace.pk, workspace.tier)
    recording.request(api, "GET", tasks)  # 429
    for error in (BodyTooSlow(), RuntimeError(), OperationalError()):
        response = api_error_response(error, RequestFactory().get("/"))
        recording.errors[str(response.status_code)] = json.loads(response.content)
    return recording


def normalized(examples: Any) -> Any:
    """Return the examples without the values that differ between runs: ids, times, secrets and delays."""
    text = json.dumps(examples, sort_keys=True)
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "<time>", text)
    text = re.sub(r'"one_[^"]*"', '"<key>"', text)
    text = re.sub(r"retry in \d+ seconds?", "retry in <delay> seconds", text)
    ids: dict[str, str] = {}
    return json.loads(re.sub(r"\b(w|u|tsk|key)_\w{20,}", lambda match: ids.setdefault(match[0], f"<{len(ids)}>"), text))


@pytest.mark.django_db
def test_examples_are_real_responses() -> None:
    recording = record_requests()

    assert normalized(recording.responses) == normalized(EXAMPLES["responses"])
    assert normalized(recording.bodies) == normalized(EXAMPLES["bodies"])
    assert normalized(recording.errors) == normalized(EXAMPLES["errors"])


def test_every_example_matches_its_schema() -> None:
    for operation in operations():
        for parameter in operation.get("parameters", []):
            if "example" in parameter:
                Draft202012Validator(parameter["schema"]).validate(parameter["example"])
        for body in operation.get("requestBody", {}).get("content", {}).values():
            validate_request(body["schema"]["$ref"].rpartition("/")[2], body["example"])
        for status, described in operation["responses"].items():
            for body in resolve(described).get("content", {}).values():
                validate_body(
                    f"{operation['operationId']} {status}", body["schema"]["$ref"].rpartition("/")[2], body["example"]
                )
