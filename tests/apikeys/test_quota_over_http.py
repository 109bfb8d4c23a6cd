"""The quota over HTTP: 40 requests a minute, 200 in 15 minutes, and an exact delay."""

import re
import time
from typing import Any

import pytest

from tests.helpers import Api, advance_quota_clock, make_key, remaining
from workspaces import quota
from workspaces.models import Workspace

pytestmark = pytest.mark.django_db


def test_the_forty_first_request_in_a_minute_is_rejected_with_the_exact_body(api: Api) -> None:
    began = time.monotonic()
    assert [api.get("/me").status_code for _ in range(40)] == [200] * 40

    rejected = api.get("/me")

    seconds = int(rejected["Retry-After"])
    assert seconds in remaining(60, began)
    assert rejected.status_code == 429
    assert rejected.json() == {
        "code": 429,
        "message": f"standard rate limit exceeded, retry in {seconds} seconds",
    }


def test_a_client_that_waits_for_retry_after_is_admitted(api: Api, workspace: Workspace) -> None:
    for _ in range(40):
        api.get("/me")
    began = time.monotonic()
    seconds = int(api.get("/me")["Retry-After"])

    advance_quota_clock(workspace.pk, seconds - 30)
    early = api.get("/me")
    assert int(early["Retry-After"]) in remaining(30, began)
    advance_quota_clock(workspace.pk, 30)

    assert early.status_code == 429
    assert early.json()["message"] == f"standard rate limit exceeded, retry in {early['Retry-After']} seconds"
    assert api.get("/me").status_code == 200


def test_all_keys_of_a_workspace_share_one_quota(api: Api, workspace: Workspace) -> None:
    other = Api(make_key(workspace, "Deploys")[1])
    for _ in range(20):
        api.get("/me")
        other.get("/me")

    assert other.get("/me").status_code == 429
    assert api.get("/me").status_code == 429


# ---- the database's clock steps back ----

AN_HOUR = 3600


def resets(response: Any) -> list[int]:
    """Return the `t` of each window in the RateLimit header."""
    return [int(seconds) for seconds in re.findall(r";t=(\d+)", response["RateLimit"])]


def test_after_the_clock_stepped_back_earlier_admissions_count_as_new_ones(api: Api, workspace: Workspace) -> None:
    assert api.get("/me").status_code == 200
    advance_quota_clock(workspace.pk, -AN_HOUR)
    began = time.monotonic()

    first = api.get("/me")
    assert [api.get("/me").status_code for _ in range(38)] == [200] * 38
    rejected = api.get("/me")

    assert (first.status_code, rejected.status_code) == (200, 429)
    assert '"standard";r=198;' in first["RateLimit"]
    assert '"burst";r=38;' in first["RateLimit"]
    assert int(rejected["Retry-After"]) in remaining(60, began)
    for response in (first, rejected):
        main, burst = resets(response)
        assert main in remaining(900, began)
        assert burst in remaining(60, began)
    advance_quota_clock(workspace.pk, 60)
    assert [api.get("/me").status_code for _ in range(41)] == [200] * 40 + [429]


def test_a_client_that_was_rejected_before_the_clock_stepped_back_waits_one_window_only(
    api: Api, workspace: Workspace
) -> None:
    assert [api.get("/me").status_code for _ in range(41)] == [200] * 40 + [429]
    advance_quota_clock(workspace.pk, -AN_HOUR)
    began = time.monotonic()

    rejected = api.get("/me")

    assert int(rejected["Retry-After"]) in remaining(60, began)
    assert resets(rejected)[1] in remaining(60, began)
    advance_quota_clock(workspace.pk, int(rejected["Retry-After"]) - 30)
    assert int(api.get("/me")["Retry-After"]) in remaining(30, began)
    advance_quota_clock(workspace.pk, 30)
    assert api.get("/me").status_code == 200


def test_a_slow_client_is_not_affected_when_the_clock_steps_back(api: Api, workspace: Workspace) -> None:
    assert api.get("/me").status_code == 200
    advance_quota_clock(workspace.pk, -AN_HOUR)

    for _ in range(60):
        assert api.get("/me").status_code == 200
        advance_quota_clock(workspace.pk, 6)


def test_a_quota_that_is_only_read_shows_no_longer_delay_than_its_windows(api: Api, workspace: Workspace) -> None:
    """The page reads the quota and counts no request."""
    assert [api.get("/me").status_code for _ in range(40)] == [200] * 40
    advance_quota_clock(workspace.pk, -AN_HOUR)
    began = time.monotonic()

    main, burst = quota.status(workspace.pk, workspace.tier).windows

    assert (main.remaining, burst.remaining) == (160, 0)
    assert main.reset in remaining(900, began)
    assert burst.reset in remaining(60, began)
