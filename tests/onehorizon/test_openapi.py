"""The OpenAPI document: complete, without warnings, with examples that are real answers."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError
from django.test import RequestFactory

from onehorizon.checks import api_routes
from onehorizon.errors import api_error_response
from onehorizon.openapi import EXAMPLES, schema
from tests.described import complain, operation_at, resolve, validator
from tests.helpers import (
    PATIENCE,
    ROOT,
    Api,
    make_key,
    make_token,
    make_user,
    make_workspace,
    manage,
    program,
)
from workspaces import quota

IDS = {
    "whoAmI", "listWorkspaces", "fetchWorkspace", "listMembers", "listTasks", "createTask", "fetchTask", "updateTask",
    "deleteTask", "listApiKeys", "createApiKey", "fetchApiKey", "updateApiKey", "revokeApiKey",
}  # fmt: skip


def operations() -> list[dict[str, Any]]:
    return [operation for path in schema()["paths"].values() for operation in path.values()]


# ---- the document ----


@pytest.mark.django_db
def test_anyone_may_read_it() -> None:
    answer = Api().get("/openapi.json")

    assert answer.status_code == 200
    assert answer["Content-Type"] == "application/json"
    assert answer.json() == schema()
    assert answer.json()["openapi"].startswith("3.1.")


@pytest.mark.django_db
def test_whoever_reads_it_with_a_key_is_counted(api: Api) -> None:
    assert api.get("/openapi.json")["RateLimit"].startswith('"standard";r=199;')
    assert Api("one_wrong").get("/openapi.json").status_code == 401


def test_the_generator_has_nothing_to_warn_of(tmp_path: Path) -> None:
    made = manage("spectacular", "--fail-on-warn", "--validate", "--format=openapi-json", f"--file={tmp_path / 'made'}")

    assert made.returncode == 0, made.stderr
    assert json.loads((tmp_path / "made").read_text()) == schema()


def test_a_linter_of_others_finds_no_error(tmp_path: Path) -> None:
    redocly = program(str(ROOT / "tests/tools/node_modules/.bin/redocly"), install="make tools (with Node.js and npm)")
    (tmp_path / "openapi.json").write_text(json.dumps(schema()))

    linted = subprocess.run(
        [redocly, "lint", "--format=json", "openapi.json"],
        cwd=tmp_path,
        env=os.environ | {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )

    assert linted.returncode == 0, linted.stdout
    assert json.loads(linted.stdout)["totals"]["errors"] == 0


def test_every_operation_is_there_by_its_name() -> None:
    assert {operation["operationId"] for operation in operations()} == IDS
    assert len(operations()) == len(IDS)
    assert {tag for operation in operations() for tag in operation["tags"]} == {"Tasks", "ApiKeys", "Workspaces", "Me"}


def test_every_route_is_described() -> None:
    routes = {re.sub(r"<[^>]*>", "{}", f"/{route}") for route in api_routes() if "^" not in route}

    assert {re.sub(r"\{\w+\}", "{}", address) for address in schema()["paths"]} == routes - {"/api/v1/openapi.json"}


def test_enums_have_names() -> None:
    components = schema()["components"]["schemas"]
    task = components["Task"]["properties"]

    for field, name in {"status": "TaskStatus", "scope": "TaskScope", "kind": "TaskKind"}.items():
        assert components[name]["enum"]
        assert task[field]["$ref"] == f"#/components/schemas/{name}"
        (query,) = [each for each in listing()["parameters"] if each["name"] == field]
        assert query["schema"]["items"] == {"$ref": f"#/components/schemas/{name}"}
    assert components["TaskContributionType"]["enum"] == ["assignee", "reviewer"]


def listing() -> dict[str, Any]:
    found = operation_at("/api/v1/workspaces/current/tasks", "GET")
    assert found is not None
    return found


def test_both_ways_to_authenticate_are_described_with_their_scopes() -> None:
    schemes = schema()["components"]["securitySchemes"]

    assert schemes["apiKey"]["scheme"] == "bearer"
    offered = schemes["oauth2"]["flows"]["authorizationCode"]["scopes"]
    for operation in operations():
        ways = {name: scopes for way in operation["security"] for name, scopes in way.items()}
        assert set(ways["oauth2"]) <= set(offered)
        assert ("apiKey" in ways) == (operation["tags"] != ["ApiKeys"])
    assert {name: scopes for way in listing()["security"] for name, scopes in way.items()} == {
        "apiKey": [],
        "oauth2": ["workspace:read"],
    }


def test_bodies_have_names_for_generators() -> None:
    named = {each["operationId"]: each["x-codegen-request-body-name"] for each in operations() if "requestBody" in each}

    assert named == {"createTask": "task", "updateTask": "task", "createApiKey": "apiKey", "updateApiKey": "apiKey"}


def links() -> list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]]:
    """Each link, with the operation and the answer that it leads on from."""
    return [
        (link, operation, answer)
        for operation in operations()
        for answer in map(resolve, operation["responses"].values())
        for link in answer.get("links", {}).values()
    ]


def test_what_is_created_links_to_what_can_be_done_with_it() -> None:
    leads = {(operation["operationId"], link["operationId"]) for link, operation, _ in links()}

    assert leads >= {("createTask", then) for then in ("fetchTask", "updateTask", "deleteTask")}
    assert leads >= {("createApiKey", then) for then in ("fetchApiKey", "updateApiKey", "revokeApiKey")}
    assert leads >= {("listTasks", "listTasks"), ("listTasks", "fetchTask"), ("listApiKeys", "fetchApiKey")}


def test_a_link_takes_what_is_there_and_gives_what_is_asked_for() -> None:
    taken = {
        operation["operationId"]: operation["parameters"] for operation in operations() if "parameters" in operation
    }

    for link, operation, answer in links():
        asked = {parameter["name"]: parameter for parameter in taken[link["operationId"]]}
        assert {name for name, parameter in asked.items() if parameter["in"] == "path"} <= set(link["parameters"])
        assert set(link["parameters"]) <= set(asked)
        for expression in link["parameters"].values():
            source, _, place = expression.partition("#/") if "#" in expression else expression.rpartition(".")
            if source == "$response.body":
                found = answer["content"]["application/json"]["example"]
                for step in place.split("/"):
                    found = found[int(step) if step.isdecimal() else step]
            else:
                assert source == "$request.path"
                assert place in {parameter["name"] for parameter in taken[operation["operationId"]]}


def test_an_answer_that_is_not_described_is_found() -> None:
    task = EXAMPLES["responses"]["fetchTask"]["200"]
    assert not list(validator("Task").iter_errors(task))

    for wrong in (
        task | {"secret": "more than it says"},
        {name: value for name, value in task.items() if name != "status"},
        task | {"status": "lost"},
        task | {"createdAt": "yesterday"},
        task | {"title": None},
    ):
        with pytest.raises(AssertionError, match="not as the OpenAPI document has it"):
            complain("GET", "Task", wrong)


# ---- examples ----


class Recorded:
    """What a few requests are answered, by operation and status, and the bodies that were sent."""

    def __init__(self) -> None:
        self.answers: dict[str, dict[str, Any]] = defaultdict(dict)
        self.bodies: dict[str, Any] = {}
        self.refusals: dict[str, Any] = {}

    def ask(self, api: Api, method: str, path: str, body: Any = None, **options: Any) -> Any:
        answer = api.request(method, path, body, **options)
        operation = operation_at(f"/api/v1{path}", method)
        assert operation is not None
        if answer.status_code >= 400:
            self.refusals[str(answer.status_code)] = answer.json()
        elif answer.status_code != 204:
            self.answers[operation["operationId"]][str(answer.status_code)] = answer.json()
            if body is not None:
                self.bodies[operation["operationId"]] = body
        return answer


def recorded() -> Recorded:
    owner, member = make_user("owner"), make_user("member")
    workspace = make_workspace(owner, member=member)
    made, tasks = Recorded(), "/workspaces/current/tasks"
    api, person = Api(make_key(workspace)[1]), Api(make_token(owner))
    made.ask(api, "GET", "/me")
    made.ask(api, "GET", "/workspaces")
    made.ask(api, "GET", "/workspaces/current")
    made.ask(api, "GET", "/workspaces/current/members")
    new = {
        "title": "Ship the billing page",
        "status": "planned",
        "userId": member.pk,
        "contributors": [{"userId": owner.pk, "type": "reviewer"}],
    }
    task = made.ask(api, "POST", tasks, new).json()
    made.ask(api, "GET", tasks)
    made.ask(api, "GET", f"{tasks}/{task['taskId']}")
    made.ask(api, "PATCH", f"{tasks}/{task['taskId']}", {"status": "in_progress"})
    keys = "/workspaces/current/api-keys"
    once = {"headers": {"Idempotency-Key": "deploys-2026-11"}}
    key = made.ask(person, "POST", keys, {"description": "Deploys", "expiresAt": "2027-11-23T08:00:00Z"}, **once).json()
    made.ask(person, "POST", keys, {"description": "Deploys", "expiresAt": "2027-11-23T08:00:00Z"}, **once)
    made.ask(person, "PATCH", f"{keys}/{key['apiKeyId']}", {"description": "Deploys, production"})
    made.ask(person, "GET", f"{keys}/{key['apiKeyId']}")
    made.ask(person, "GET", keys)

    made.ask(person, "POST", keys, {"description": "Another"}, **once)  # 422
    made.ask(api, "POST", tasks, {"title": "", "status": "done"})  # 400
    made.ask(Api("one_nobody's"), "GET", "/me")  # 401
    made.ask(Api(make_token(owner, "openid")), "GET", tasks)  # 403
    made.ask(api, "GET", f"{tasks}/tsk_1")  # 404
    made.ask(api, "GET", tasks, headers={"Accept": "text/html"})  # 406
    for _ in range(18):
        make_key(workspace)
    made.ask(person, "POST", keys, {"description": "One more"})  # 409
    made.ask(api, "POST", tasks, "x" * 1024 * 1024)  # 413
    made.ask(api, "POST", tasks, data="title=Ship", content_type="application/x-www-form-urlencoded")  # 415
    for _ in range(40):
        quota.admit(workspace.pk, workspace.tier)
    made.ask(api, "GET", tasks)  # 429
    for error in (RuntimeError(), OperationalError()):
        response = api_error_response(error, RequestFactory().get("/"))
        made.refusals[str(response.status_code)] = json.loads(response.content)
    return made


def normalized(examples: Any) -> Any:
    """Without what no two runs have alike: ids, times, secrets and delays."""
    text = json.dumps(examples, sort_keys=True)
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "<time>", text)
    text = re.sub(r'"one_[^"]*"', '"<key>"', text)
    text = re.sub(r"retry in \d+ seconds?", "retry in <delay> seconds", text)
    ids: dict[str, str] = {}
    return json.loads(re.sub(r"\b(w|u|tsk|key)_\w{20,}", lambda found: ids.setdefault(found[0], f"<{len(ids)}>"), text))


@pytest.mark.django_db
def test_examples_are_real_answers() -> None:
    made = recorded()

    assert normalized(made.answers) == normalized(EXAMPLES["responses"])
    assert normalized(made.bodies) == normalized(EXAMPLES["bodies"])
    assert normalized(made.refusals) == normalized(EXAMPLES["errors"])


def test_every_example_is_as_described() -> None:
    for operation in operations():
        for status, described in operation["responses"].items():
            for body in resolve(described).get("content", {}).values():
                complain(
                    f"{operation['operationId']} {status}", body["schema"]["$ref"].rpartition("/")[2], body["example"]
                )
