"""The API accepts the values that the OpenAPI document permits, and rejects those that it forbids.

Descriptions contain the rules that a schema can't express: people must be members, lengths are counted in UTF-16 code
units after trimming and NFC, and a key expires in the future. The values here follow those rules.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from rest_framework.exceptions import ValidationError

from apikeys.models import ApiKey
from apikeys.serializers import NewApiKeySerializer
from onehorizon.openapi import schema
from tests.described import operation_at
from tests.helpers import Api, make_token
from workspaces.ids import new_id
from workspaces.models import Task, Tier, User, Workspace
from workspaces.serializers import NewTaskSerializer

TASKS = "/workspaces/current/tasks"
KEYS = "/workspaces/current/api-keys"

# The first and the last character of each range in the patterns of text, and their neighbours.
EDGES = (
    "00 08 09 0A 0D 0E 1B 1C 1F 20 7F 85 9F A0 AD 61C 1680 180E 2000 200A 200B 200F 2028 2029 202A 202E "
    "202F 205F 2060 2065 2066 2069 206A 206F 3000 FE00 FE0F FEFF 1F680"
)
CHARACTERS = [
    chr(code + offset)
    for code in (int(edge, 16) for edge in EDGES.split())
    for offset in (-1, 0, 1)
    if code + offset >= 0
]
NOTABLE = "\0\x1b\x7f\x85\xa0\xad\u200b\u2028\u202e\u2069\ufeff\u0301🚀"
TEXTS: list[Any] = [
    *("", " ", "x", " x ", "\n x \r\n", "x\ny", "x\ty", "\u200b \u200b", " \u200b x", "\u200b\nx", "x" * 100),
    *("one_", "one_8kJ2mQ4xZt7c_V", "-one_8kJ2mQ4xZt7c_V-", "one_8kJ2mQ4xZt7c_", "one_8kJ2mQ4xZt7c_…", "x" * 20_001),
    *NOTABLE,
    *(f"x{character}y" for character in NOTABLE),
    *(None, 7, True, [], {}, ["x"]),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _high_limits(request: pytest.FixtureRequest) -> None:
    if "db" in request.fixturenames:
        Tier.objects.update(requests=10_000, burst_requests=10_000)


@cache
def validator(component: str, field: str) -> Draft202012Validator:
    document = schema()["components"]
    return Draft202012Validator(
        {"$ref": f"#/components/schemas/{component}/properties/{field}", "components": document},
        format_checker=Draft202012Validator.FORMAT_CHECKER,
    )


def differences(component: str, field: str, values: list[Any], send: Callable[[dict[str, Any]], Any]) -> list[Any]:
    """Return the values that the component of the document permits and the API rejects, and the reverse."""
    differing = []
    for value in values:
        response = send({field: value})
        assert response.status_code in (200, 201, 400), response.content
        if (response.status_code != 400) is not validator(component, field).is_valid(value):
            differing.append((value, response.json()))
    return differing


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("title", [*TEXTS, "x" * 200, "x" * 201]),
        ("description", [*TEXTS, "x" * 20_000]),
        ("status", ["open", "in_progress", "done", "OPEN", "open ", "", None, 7, ["open"]]),
        ("kind", ["bug", "epic", "", None]),
        ("scope", ["ongoing", "all", "", None]),
        ("visibility", ["team", "public", "", None]),
        ("userId", ["{member}", None, " {member}", "{member} ", "{member}0", "u_", "member@example.com", "", 7, []]),
        ("contributors", [[], None, "", {}, [None], [{}], [{"type": "assignee"}], [{"userId": "u_", "type": "boss"}]]),
    ],
)
def test_fields_of_tasks(field: str, values: list[Any], api: Api, workspace: Workspace, member: User) -> None:
    task = Task.objects.create_task(workspace, title="Ship")
    values = [value.replace("{member}", member.pk) if isinstance(value, str) else value for value in values]

    assert not differences("NewTask", field, values, lambda body: api.post(TASKS, {"title": "Ship"} | body))
    assert not differences("TaskChanges", field, values, lambda body: api.patch(f"{TASKS}/{task.pk}", body))


@pytest.mark.django_db
def test_contributors_of_tasks(api: Api, member: User) -> None:
    contributor = {"userId": member.pk, "type": "assignee"}
    values = [
        *([contributor | {"type": "boss"}], [contributor | {"type": None}], [contributor | {"userId": None}]),
        *([contributor | {"userId": f" {member.pk}"}], [contributor | {"userId": "u_1"}], [contributor | {"x": 1}]),
        [contributor] * 101,
    ]

    assert not differences("NewTask", "contributors", values, lambda body: api.post(TASKS, {"title": "Ship"} | body))
    assert validator("NewTask", "contributors").is_valid([contributor] * 100)


@pytest.mark.django_db
def test_fields_of_api_keys(owner: User, api_key: ApiKey) -> None:
    api = Api(make_token(owner))
    texts = [*TEXTS, "x" * 101]
    times: list[Any] = [
        *("2099-12-31T23:59:59Z", "2099-12-31t23:59:59z", "2099-12-31T23:59:59.1234567+23:59"),
        *("2099-12-31", "2099-12-31T23:59:59", "2099-12-31 23:59:59Z", "2099-13-01T00:00:00Z", "2099-W01-1T00:00:00Z"),
        *("2099-02-29T00:00:00Z", "2099-01-01T24:00:00Z", "2099-01-01T00:00Z", "٢٠٩٩-01-01T00:00:00Z", "", 7, None, []),
    ]  # fmt: skip

    assert not differences("ApiKeyChanges", "description", texts, lambda body: api.patch(f"{KEYS}/{api_key.pk}", body))
    assert not differences("NewApiKey", "expiresAt", times, lambda body: api.post(KEYS, {"description": "CI"} | body))
    descriptions = [
        schema()["components"]["schemas"][name]["properties"]["description"] for name in ("NewApiKey", "ApiKeyChanges")
    ]
    assert descriptions[0] == descriptions[1]


@pytest.mark.django_db
def test_query_parameters(api: Api, owner: User, workspace: Workspace) -> None:
    usage = "/workspaces/current/usage"
    clients = {TASKS: api, KEYS: Api(make_token(owner)), usage: api}
    cases: list[tuple[str, str, list[Any]]] = [
        (TASKS, "cursor", [new_id("tsk"), new_id("key"), "tsk_", f" {new_id('tsk')}", f"{new_id('tsk')}0", ""]),
        (KEYS, "cursor", [new_id("key"), new_id("tsk"), new_id("key").upper(), ""]),
        (TASKS, "userId", [owner.pk, "nobody", " ", "u" * 40, "u" * 41, "%00", ""]),
        (TASKS, "status", ["open", "done", "OPEN", ""]),
        (KEYS, "status", ["active", "all", "ACTIVE", ""]),
        (TASKS, "limit", [0, 1, 200, 201, -1]),
        (usage, "to", ["2026-01-31T09:00:00Z", "2026-01-31T09:00:00+02:00", "2026-01-31t09:00:00.5-23:59"]),
        (usage, "to", ["2026-01-31", "2026-01-31 09:00:00Z", "2026-01-31T09:00:00", "2026-02-30T09:00:00Z", "now", ""]),
        (usage, "interval", ["hour", "day", "week", "Day", ""]),
    ]
    for path, name, values in cases:
        operation = operation_at(f"/api/v1{path}", "GET")
        assert operation is not None
        (parameter,) = [parameter for parameter in operation["parameters"] if parameter["name"] == name]
        described = Draft202012Validator(
            {**parameter["schema"], "components": schema()["components"]},
            format_checker=Draft202012Validator.FORMAT_CHECKER,
        )
        for value in values:
            decoded = value if value != "%00" else "\0"
            permitted = described.is_valid([decoded] if parameter["schema"].get("type") == "array" else decoded)
            response = clients[path].get(f"{path}?{name}={value}")
            assert (response.status_code == 200) is permitted, (name, value)


@pytest.mark.django_db
def test_path_parameters(api: Api, workspace: Workspace) -> None:
    """An id that the document forbids is answered like one that does not exist."""
    patterns = {
        parameter["name"]: parameter["schema"]["pattern"]
        for operations in schema()["paths"].values()
        for operation in operations.values()
        for parameter in operation.get("parameters", [])
        if parameter["in"] == "path"
    }
    for prefix, name in (("w", "workspaceId"), ("tsk", "taskId"), ("key", "apiKeyId")):
        assert re.search(patterns[name], new_id(prefix))
        for wrong in ("", "Current", f"{prefix}_", f"x{new_id(prefix)}", f"{new_id(prefix)}0", new_id(prefix).upper()):
            assert not re.search(patterns[name], wrong)
    assert set(patterns) == {"workspaceId", "taskId", "apiKeyId"}
    assert re.search(patterns["workspaceId"], "current")
    assert api.get(f"/workspaces/{workspace.pk.upper()}").status_code == 404
    assert api.get(f"{TASKS}/{new_id('tsk')}0").status_code == 404


FIELDS = {
    ("NewTask", "title"): NewTaskSerializer().fields["title"],
    ("NewTask", "description"): NewTaskSerializer().fields["description"],
    ("NewApiKey", "description"): NewApiKeySerializer().fields["description"],
}


def accepts(field: Any, text: str) -> bool:
    try:
        field.run_validation(text)
    except ValidationError:
        return False
    return True


@given(st.text(st.sampled_from(["x", "é", *CHARACTERS]), max_size=8))
def test_fields_accept_what_their_patterns_permit(text: str) -> None:
    for (component, name), field in FIELDS.items():
        assert accepts(field, text) is validator(component, name).is_valid(text)


def test_patterns_agree_with_the_fields_about_every_character() -> None:
    """All but planes that are like others. The tests above use only those at the edges of ranges."""
    for (component, name), field in FIELDS.items():
        described = schema()["components"]["schemas"][component]["properties"][name]
        forbidden = re.compile(described["not"]["pattern"])
        for code in (*range(0xD800), *range(0xE000, 0x11000), *range(0x1F000, 0x20000)):
            assert bool(forbidden.search(chr(code))) is not accepts(field, chr(code)), hex(code)
