"""The usage of a key and of a workspace over REST: figures, periods, and who may see what."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from time_machine import TimeMachineFixture

from apikeys.models import ApiKey, ApiKeyUsage, StoredSecret
from apikeys.usage import recorder
from tests.helpers import BY_TEST, Api, make_key, make_token
from workspaces.models import User, Workspace

USAGE = "/workspaces/current/usage"
NOW = datetime(2026, 11, 27, 9, 30, tzinfo=UTC)
DAY = "from=2026-11-26T00:00:00Z&to=2026-11-27T00:00:00Z"
NOTHING = {"admitted": 0, "rejected": 0, "clientErrors": 0, "serverErrors": 0}


@pytest.fixture(autouse=True)
def _now(time_machine: TimeMachineFixture) -> None:
    time_machine.move_to(NOW, tick=False)


@pytest.fixture
def owner_api(_now: None, owner: User, workspace: Workspace) -> Api:
    """The REST API with an access token of the owner."""
    return Api(make_token(owner))


def use(api_key: ApiKey, hour: str, admitted: int = 0, rejected: int = 0, client: int = 0, server: int = 0) -> None:
    """Store usage in the hour that starts at this time."""
    start = int(datetime.fromisoformat(hour).timestamp())
    ApiKeyUsage.objects.add({(api_key.pk, start): (admitted, rejected, client, server)})


def usage_path(api_key: ApiKey) -> str:
    return f"/workspaces/current/api-keys/{api_key.pk}/usage"


def used(body: dict[str, Any]) -> dict[str, int]:
    """Return the number of admitted requests by the start of each interval that has requests."""
    return {point["at"]: point["admitted"] for point in body["points"] if point["admitted"]}


# ---- figures ----


def test_the_figures_are_those_that_a_script_counts(owner_api: Api, api: Api, api_key: ApiKey) -> None:
    statuses = [api.get(path).status_code for path in ("/me", "/me", "/nowhere", "/me?unknown=1")]
    recorder.write()

    body = owner_api.get(usage_path(api_key)).json()

    assert statuses == [200, 200, 404, 400]
    counts = {"admitted": 4, "rejected": 0, "clientErrors": 2, "serverErrors": 0}
    assert body["total"] == counts
    assert body["points"][-1] == {"at": "2026-11-27T09:00:00Z", **counts}
    body = owner_api.get(USAGE).json()
    assert body["total"] == counts
    assert body["apiKeys"] == [
        {"apiKeyId": api_key.pk, "maskedKey": api_key.masked, "description": api_key.description, **counts}
    ]


def test_the_usage_of_a_key_by_the_hour(owner_api: Api, api_key: ApiKey, workspace: Workspace) -> None:
    use(api_key, "2026-11-26T23:00:00Z", 5, 2, 1, 3)
    use(api_key, "2026-11-27T00:00:00Z", 7)
    use(make_key(workspace)[0], "2026-11-27T00:00:00Z", 90)

    body = owner_api.get(f"{usage_path(api_key)}?from=2026-11-26T22:10:00Z&to=2026-11-27T00:00:01Z").json()

    assert body == {
        "apiKeyId": api_key.pk,
        "maskedKey": api_key.masked,
        "from": "2026-11-26T22:00:00Z",
        "to": "2026-11-27T01:00:00Z",
        "interval": "hour",
        "total": {"admitted": 12, "rejected": 2, "clientErrors": 1, "serverErrors": 3},
        "points": [
            {"at": "2026-11-26T22:00:00Z", **NOTHING},
            {"at": "2026-11-26T23:00:00Z", "admitted": 5, "rejected": 2, "clientErrors": 1, "serverErrors": 3},
            {"at": "2026-11-27T00:00:00Z", **NOTHING, "admitted": 7},
        ],
    }


def test_days_begin_at_midnight_in_utc(owner_api: Api, api_key: ApiKey) -> None:
    use(api_key, "2026-11-24T23:00:00Z", 1)
    use(api_key, "2026-11-25T00:00:00Z", 2)
    use(api_key, "2026-11-26T23:00:00Z", 4)
    use(api_key, "2026-11-27T00:00:00Z", 8)

    body = owner_api.get(f"{USAGE}?interval=day&from=2026-11-25T23:59:59Z&to=2026-11-27T00:00:01Z").json()

    assert (body["from"], body["to"], body["interval"]) == ("2026-11-25T00:00:00Z", "2026-11-28T00:00:00Z", "day")
    assert [(point["at"], point["admitted"]) for point in body["points"]] == [
        ("2026-11-25T00:00:00Z", 2),
        ("2026-11-26T00:00:00Z", 4),
        ("2026-11-27T00:00:00Z", 8),
    ]
    assert body["total"]["admitted"] == body["apiKeys"][0]["admitted"] == 14


def test_the_usage_of_a_workspace_has_the_busiest_key_first(
    owner_api: Api, workspace: Workspace, elsewhere: Workspace
) -> None:
    nightly, deploys, throttled, unused = (make_key(workspace, name)[0] for name in "ABCD")
    use(nightly, "2026-11-26T03:00:00Z", 150, client=10)
    use(nightly, "2026-11-26T04:00:00Z", 40, server=1)
    use(deploys, "2026-11-26T03:00:00Z", 20, 30)
    use(throttled, "2026-11-26T04:00:00Z", 0, 300)
    use(nightly, "2026-11-27T00:00:00Z", 1_000)  # after the period
    use(make_key(elsewhere)[0], "2026-11-26T03:00:00Z", 900)

    body = owner_api.get(f"{USAGE}?{DAY}").json()

    assert body["workspaceId"] == workspace.pk
    assert body["total"] == {"admitted": 210, "rejected": 330, "clientErrors": 10, "serverErrors": 1}
    assert used(body) == {"2026-11-26T03:00:00Z": 170, "2026-11-26T04:00:00Z": 40}
    assert len(body["points"]) == 24
    assert [tuple(row.values()) for row in body["apiKeys"]] == [
        (throttled.pk, throttled.masked, "C", 0, 300, 0, 0),
        (nightly.pk, nightly.masked, "A", 190, 0, 10, 1),
        (deploys.pk, deploys.masked, "B", 20, 30, 0, 0),
    ]
    assert unused.pk not in str(body)


def test_a_workspace_without_requests_has_zeros(owner_api: Api, api_key: ApiKey) -> None:
    for path in (USAGE, usage_path(api_key)):
        body = owner_api.get(f"{path}?{DAY}").json()
        assert body["total"] == NOTHING
        assert [point | {"at": None} for point in body["points"]] == [{"at": None, **NOTHING}] * 24
    assert owner_api.get(USAGE).json()["apiKeys"] == []


def test_the_usage_of_a_revoked_and_rotated_key_remains(
    owner_api: Api, api_key: ApiKey, time_machine: TimeMachineFixture
) -> None:
    use(api_key, "2026-11-26T03:00:00Z", 5)
    time_machine.shift(60)
    api_key.rotate(overlap=timedelta(), by=BY_TEST)
    use(api_key, "2026-11-26T04:00:00Z", 6)
    api_key.revoke(by=BY_TEST)

    of_key = owner_api.get(f"{usage_path(api_key)}?{DAY}").json()
    (row,) = owner_api.get(f"{USAGE}?{DAY}").json()["apiKeys"]

    current_form = StoredSecret.objects.current().get(api_key=api_key).masked
    assert (of_key["maskedKey"], of_key["total"]["admitted"]) == (current_form, 11)
    assert (row["maskedKey"], row["apiKeyId"], row["admitted"]) == (current_form, api_key.pk, 11)


def make_used_keys(workspace: Workspace, count: int) -> None:
    """Create keys, without hashing. The nth has sent n requests."""
    keys = ApiKey.objects.bulk_create(ApiKey(workspace=workspace, description="Key") for _ in range(count))
    StoredSecret.objects.bulk_create(
        StoredSecret(key_id=api_key.pk[-12:], workspace=workspace, api_key=api_key, hash="", fingerprint=b"")
        for api_key in keys
    )
    for number, api_key in enumerate(keys, start=1):
        use(api_key, "2026-11-26T03:00:00Z", number)


def test_the_100_busiest_keys_are_listed_and_the_total_has_all(owner_api: Api, workspace: Workspace) -> None:
    make_used_keys(workspace, 102)

    body = owner_api.get(f"{USAGE}?{DAY}").json()

    assert [row["admitted"] for row in body["apiKeys"]] == list(range(102, 2, -1))
    assert body["total"]["admitted"] == sum(range(103))


def test_the_number_of_queries_does_not_depend_on_the_number_of_keys_or_hours(
    owner_api: Api, workspace: Workspace
) -> None:
    numbers = []
    for count, query in ((1, DAY), (29, "from=2026-10-28T00:00:00Z&to=2026-11-27T00:00:00Z")):
        make_used_keys(workspace, count)
        with CaptureQueriesContext(connection) as queries:
            owner_api.get(f"{USAGE}?{query}")
        numbers.append(len(queries))

    assert numbers[0] == numbers[1]


# ---- periods ----


@pytest.mark.parametrize(
    ("query", "start", "end", "points"),
    [
        ("", "2026-11-26T09", "2026-11-27T10", 25),
        ("interval=hour", "2026-11-26T09", "2026-11-27T10", 25),
        ("interval=day", "2026-10-28T00", "2026-11-28T00", 31),
        ("from=2026-11-27T08:59:59Z", "2026-11-27T08", "2026-11-27T10", 2),
        ("from=2026-11-27T09:29:59Z", "2026-11-27T09", "2026-11-27T10", 1),
        ("to=2026-11-20T12:00:00Z", "2026-11-19T12", "2026-11-20T12", 24),
        ("to=2026-11-20T12:00:00Z&interval=day", "2026-10-21T00", "2026-11-21T00", 31),
        ("to=2026-12-01T00:00:00Z", "2026-11-30T00", "2026-12-01T00", 24),
        ("from=2026-10-27T09:30:00Z", "2026-10-27T09", "2026-11-27T10", 745),
        ("from=2025-11-26T09:30:00Z&interval=day", "2025-11-26T00", "2026-11-28T00", 367),
        ("from=2026-11-27T00:00:00.9Z&to=2026-11-27T01:00:00.1Z", "2026-11-27T00", "2026-11-27T02", 2),
        # Offsets. An unencoded `+` is a space when it is decoded.
        ("from=2026-11-27T01:30:00%2B02:00&to=2026-11-27T00:00:00-01:00", "2026-11-26T23", "2026-11-27T01", 2),
        ("from=2026-11-27T01:30:00+02:00&to=2026-11-27T00:30:00Z", "2026-11-26T23", "2026-11-27T01", 2),
        ("from=2026-11-27T05:30:00%2B05:30&to=2026-11-27T06:00:00%2B05:30", "2026-11-27T00", "2026-11-27T01", 1),
        ("from=2026-11-27T01:00:00%2B02:00&interval=day", "2026-11-26T00", "2026-11-28T00", 2),
        # The first and the last times.
        ("from=0001-01-01T00:00:00Z&to=0001-01-02T00:00:00Z", "0001-01-01T00", "0001-01-02T00", 24),
        ("to=9999-12-31T00:00:00Z", "9999-12-30T00", "9999-12-31T00", 24),
    ],
)  # fmt: skip
def test_periods_are_extended_to_whole_intervals(
    query: str, start: str, end: str, points: int, owner_api: Api, api_key: ApiKey
) -> None:
    for path in (USAGE, usage_path(api_key)):
        body = owner_api.get(f"{path}?{query}").json()
        assert (body["from"], body["to"]) == (f"{start}:00:00Z", f"{end}:00:00Z")
        assert len(body["points"]) == points
        assert body["points"][0]["at"] == body["from"]


FORMAT = "Use RFC 3339 format, such as 2027-01-31T09:00:00Z."
ORDER = "This must be before `to`, which is now by default."
YEARS = "The period must be within the years 1 to 9999."


@pytest.mark.parametrize(
    ("query", "errors"),
    [
        ("from=2026-11-27T09:00:00Z&to=2026-11-27T09:00:00Z", {"from": [ORDER]}),
        ("from=2026-11-27T09:00:01Z&to=2026-11-27T09:00:00Z", {"from": [ORDER]}),
        ("from=2026-11-27T09:30:00Z", {"from": [ORDER]}),
        ("from=9999-12-31T23:59:59Z", {"from": [ORDER]}),
        ("from=2026-10-27T09:29:59Z", {"from": ["With interval=hour, a period has at most 31 days."]}),
        ("from=0001-01-01T00:00:00Z", {"from": ["With interval=hour, a period has at most 31 days."]}),
        ("from=2025-11-26T09:29:59Z&interval=day", {"from": ["With interval=day, a period has at most 366 days."]}),
        ("to=0001-01-01T23:59:59Z", {"to": [YEARS]}),
        ("to=0001-01-30T00:00:00Z&interval=day", {"to": [YEARS]}),
        ("to=9999-12-31T23:00:01Z", {"to": [YEARS]}),
        ("from=0001-01-01T00:00:00%2B00:01", {"from": ["Datetime value out of range."]}),
        ("to=9999-12-31T23:59:59-00:01", {"to": ["Datetime value out of range."]}),
        ("interval=week", {"interval": ["This must be one of: hour, day."]}),
        ("interval=", {"interval": ["This must be one of: hour, day."]}),
        ("from=&to=yesterday", {"from": [FORMAT], "to": [FORMAT]}),
        ("from=2026-11-27", {"from": [FORMAT]}),
        ("from=2026-11-27T09:00:00", {"from": [FORMAT]}),
        ("from=2026-11-27 09:00:00Z", {"from": [FORMAT]}),
        ("from=1795788312", {"from": [FORMAT]}),
        ("from=0000-01-01T00:00:00Z", {"from": [FORMAT]}),
        ("from=2026-11-26T23:59:60Z", {"from": [FORMAT]}),
        ("to=2026-13-01T00:00:00Z", {"to": [FORMAT]}),
        ("to=2026-11-27T09:00:00Z&to=2026-11-27T09:00:00Z", {"to": ["Send this query parameter once."]}),
        ("start=2026-11-27T09:00:00Z", {"start": ["Unknown query parameter. Use one of: from, to, interval."]}),
    ],
)
def test_an_invalid_period_is_rejected(query: str, errors: Any, owner_api: Api, api_key: ApiKey) -> None:
    for path in (USAGE, usage_path(api_key)):
        response = owner_api.get(f"{path}?{query}")
        assert (response.status_code, response.json()["errors"]) == (400, errors)


def test_the_default_period_ends_now_however_often_it_is_requested(
    owner_api: Api, api_key: ApiKey, time_machine: TimeMachineFixture
) -> None:
    """Validated query strings are cached, also an empty one."""
    ends = []
    for query in ("?interval=hour", "?from=2026-11-27T08:00:00Z"):
        for now in (NOW, NOW + timedelta(minutes=50)):
            time_machine.move_to(now, tick=False)
            ends.append(owner_api.get(f"{USAGE}{query}").json()["to"])

    assert ends == ["2026-11-27T10:00:00Z", "2026-11-27T11:00:00Z"] * 2


# ---- who may see what ----


@pytest.mark.parametrize(
    ("role", "scopes", "of_key", "of_workspace"),
    [
        ("owner", [], 200, 200),
        ("admin", [], 200, 200),
        ("member", [], 403, 200),
        ("outsider", [], 404, 404),
        ("owner", ["workspace:read"], 403, 200),
        ("owner", ["api-keys:manage"], 200, 403),
        ("owner", ["workspace:write"], 403, 403),
    ],
)
def test_who_may_fetch_usage(
    role: str,
    scopes: list[str],
    of_key: int,
    of_workspace: int,
    workspace: Workspace,
    api_key: ApiKey,
    outsider: User,
    request: pytest.FixtureRequest,
) -> None:
    api = Api(make_token(request.getfixturevalue(role), *scopes))
    path = f"/workspaces/{workspace.pk}"

    assert api.get(f"{path}/api-keys/{api_key.pk}/usage").status_code == of_key
    assert api.get(f"{path}/usage").status_code == of_workspace


@pytest.mark.parametrize(
    ("role", "scopes", "sees_ids"),
    [
        ("owner", [], True),
        ("admin", ["workspace:read", "api-keys:manage"], True),
        ("admin", ["workspace:read"], False),
        ("member", [], False),
    ],
)
def test_only_people_who_can_manage_keys_see_their_ids_and_descriptions(
    role: str,
    scopes: list[str],
    sees_ids: bool,
    api_key: ApiKey,
    owner_api: Api,
    request: pytest.FixtureRequest,
) -> None:
    use(api_key, "2026-11-26T03:00:00Z", 5)
    api = Api(make_token(request.getfixturevalue(role), *scopes))

    response = api.get(f"{USAGE}?{DAY}")

    (row,) = response.json()["apiKeys"]
    assert (row["maskedKey"], row["admitted"]) == (api_key.masked, 5)
    known = (api_key.pk, api_key.description) if sees_ids else (None, None)
    assert (row["apiKeyId"], row["description"]) == known


def test_a_key_sees_other_keys_in_masked_form_only(api: Api, api_key: ApiKey, workspace: Workspace) -> None:
    other, _ = make_key(workspace, "Nightly import")
    use(api_key, "2026-11-26T03:00:00Z", 1)
    use(other, "2026-11-26T03:00:00Z", 2)

    response = api.get(f"{USAGE}?{DAY}")

    assert [tuple(row.values())[:4] for row in response.json()["apiKeys"]] == [
        (None, other.masked, None, 2),
        (api_key.pk, api_key.masked, "CI, production", 1),
    ]
    assert other.pk not in response.content.decode()
    assert api.get(usage_path(api_key)).status_code == api.get(usage_path(other)).status_code == 403


def test_a_key_of_another_workspace_looks_exactly_like_an_absent_one(owner_api: Api, elsewhere: Workspace) -> None:
    other, _ = make_key(elsewhere)
    use(other, "2026-11-26T03:00:00Z", 5)

    existing = owner_api.get(usage_path(other))
    absent = owner_api.get("/workspaces/current/api-keys/key_00000000000000000000000000/usage")

    assert existing.status_code == absent.status_code == 404
    assert existing.content == absent.content
    assert owner_api.get(f"/workspaces/{elsewhere.pk}/api-keys/{other.pk}/usage").status_code == 404
    assert owner_api.get(f"/workspaces/{elsewhere.pk}/usage").status_code == 404


def test_the_people_of_a_suspended_workspace_see_its_usage_and_its_keys_do_not(
    owner_api: Api, api: Api, api_key: ApiKey, workspace: Workspace
) -> None:
    use(api_key, "2026-11-26T03:00:00Z", 5)
    workspace.suspend("An invoice is three months late", by=BY_TEST)

    for path in (USAGE, usage_path(api_key)):
        assert owner_api.get(f"{path}?{DAY}").json()["total"]["admitted"] == 5
    assert api.get(USAGE).status_code == 401


def test_usage_can_only_be_read(owner_api: Api, api_key: ApiKey) -> None:
    for path in (USAGE, usage_path(api_key)):
        head = owner_api.request("HEAD", path)
        assert (head.status_code, head.content) == (200, b"")
        for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
            response = owner_api.request(method, path)
            assert (response.status_code, response["Allow"]) == (405, "GET, HEAD")
