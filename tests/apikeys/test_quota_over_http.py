"""The quota over HTTP: 40 requests a minute, 200 in 15 minutes, and an exact delay."""

import time

import pytest

from tests.helpers import Api, advance_quota_clock, make_key, remaining
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
