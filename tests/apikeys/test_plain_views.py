"""The authentication and throttle classes on a plain `APIView` with DRF's stock exception handler."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.urls import path
from drf_spectacular.generators import SchemaGenerator
from prometheus_client import REGISTRY
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.test import APIClient
from rest_framework.views import APIView, exception_handler

from apikeys import hashing, keys
from apikeys.authentication import ApiKeyAuthentication
from apikeys.models import ApiKey
from apikeys.throttling import QuotaThrottle
from onehorizon.checks import problem_of
from tests.helpers import BY_TEST, RESOURCE_METADATA, make_token
from tests.processes import ROOT
from workspaces import quota
from workspaces.models import User, Workspace

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]


EXAMPLE = re.search(r"```python\n(class ReportView.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
assert EXAMPLE is not None
namespace: dict[str, Any] = {
    "APIView": APIView,
    "ApiKeyAuthentication": ApiKeyAuthentication,
    "QuotaThrottle": QuotaThrottle,
    "Response": Response,
}
exec(EXAMPLE[1], namespace)  # noqa: S102, the README's example


example_view: Any = namespace["ReportView"]


class ReportView(example_view):  # type: ignore[misc]  # defined by exec
    def get_exception_handler(self) -> Any:
        return exception_handler


class TwiceView(ReportView):
    """Calls both classes a second time, also after one of them has rejected the request."""

    def check_again(self) -> None:
        assert ApiKeyAuthentication().authenticate(self.request) == (self.request.user, self.request.auth)
        assert QuotaThrottle().allow_request(self.request, self)

    def get(self, request: Request) -> Any:
        self.check_again()
        return super().get(request)

    def handle_exception(self, exc: Exception) -> Any:
        with pytest.raises(type(exc), match=re.escape(str(exc))):
            self.check_again()
        return super().handle_exception(exc)


urlpatterns = [
    path("reports", ReportView.as_view()),
    path("api/v1/reports/<str:report_id>", ReportView.as_view()),
    path("api/v1/twice", TwiceView.as_view()),
]


def get(route: str, token: str | None = None, scheme: str = "Bearer") -> Any:
    headers = {"Authorization": f"{scheme} {token}"} if token else {}
    return APIClient().get(route, headers=headers)


def test_a_valid_key_is_authenticated_and_counted(secret: str, workspace: Workspace) -> None:
    response = get("/reports", secret)

    assert (response.status_code, response.json()) == (200, {"workspace": workspace.name})
    assert response["RateLimit"] == '"standard";r=199;t=900, "burst";r=39;t=60'
    assert response["RateLimit-Policy"] == '"standard";q=200;w=900, "burst";q=40;w=60'


@pytest.mark.parametrize("scheme", [None, "Basic", "Token"])
def test_without_a_bearer_token_the_response_is_401_with_the_challenge(scheme: str | None, secret: str) -> None:
    response = get("/reports", secret, scheme) if scheme else get("/reports")

    assert response.status_code == 401
    assert response["WWW-Authenticate"] == f'Bearer realm="onehorizon", {RESOURCE_METADATA}'


def test_an_invalid_key_is_401_with_the_challenge(secret: str, api_key: ApiKey, workspace: Workspace) -> None:
    api_key.revoke(by=BY_TEST)

    for invalid in (secret, "one_wrong"):
        response = get("/reports", invalid)
        assert response.status_code == 401
        assert response["WWW-Authenticate"] == f'Bearer realm="onehorizon", error="invalid_token", {RESOURCE_METADATA}'
        assert not response.has_header("RateLimit")
    assert quota.status(workspace.pk, workspace.tier).windows[0].remaining == 200


def test_another_kind_of_token_is_left_to_other_classes(owner: User) -> None:
    assert get("/reports", make_token(owner)).status_code == 401


def test_over_quota_the_response_is_429_with_the_delay_and_the_message(secret: str, workspace: Workspace) -> None:
    for _ in range(40):
        quota.admit(workspace.pk, workspace.tier)

    response = get("/reports", secret)

    seconds = int(response["Retry-After"])
    assert response.status_code == 429
    assert response.json() == {"detail": f"standard rate limit exceeded, retry in {seconds} seconds"}
    assert 0 < seconds <= 60
    assert response["RateLimit"].endswith(f'"burst";r=0;t={seconds}')


def test_too_many_invalid_keys_are_429(settings: Any) -> None:
    settings.APIKEYS_FAILURES_PER_MINUTE = 1

    statuses = [get("/reports", "one_wrong").status_code for _ in range(2)]

    assert statuses == [401, 429]


def test_calling_both_classes_again_does_not_count_again(secret: str, workspace: Workspace) -> None:
    for number in range(1, 4):  # on PostgreSQL all but the first take the fast path
        response = get("/api/v1/twice", secret)
        assert response.status_code == 200
        assert response["RateLimit"].startswith(f'"standard";r={200 - number};')
    assert quota.status(workspace.pk, workspace.tier).windows[0].remaining == 197


@pytest.fixture
def _metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count in this process, as with METRICS_ADDRESS."""
    monkeypatch.setattr("core.metrics._ENABLED", True)


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0


@pytest.mark.usefixtures("_metrics")
@pytest.mark.parametrize("reason", ["malformed", "unknown"])
def test_an_invalid_key_that_is_checked_again_is_one_failure(reason: str, settings: Any) -> None:
    invalid = "one_wrong" if reason == "malformed" else keys.generate().secret
    settings.APIKEYS_FAILURES_PER_MINUTE = 2
    labels = {"kind": "api_key", "outcome": "rejected", "reason": reason}
    before = metric("onehorizon_authentications_total", **labels)

    statuses = [get("/api/v1/twice", invalid).status_code for _ in range(3)]

    assert statuses == [401, 401, 429]
    assert metric("onehorizon_authentications_total", **labels) == before + 3


@pytest.mark.usefixtures("_metrics")
def test_a_request_over_quota_that_is_checked_again_is_one_rejection(secret: str, workspace: Workspace) -> None:
    assert get("/api/v1/twice", secret).status_code == 200
    while quota.admit(workspace.pk, workspace.tier).admitted:
        pass
    before = metric("onehorizon_quota_rejections_total", tier="standard")

    assert get("/api/v1/twice", secret).status_code == 429  # on PostgreSQL by the fast path
    assert metric("onehorizon_quota_rejections_total", tier="standard") == before + 1
    hashing.proofs.clear()
    assert get("/api/v1/twice", secret).status_code == 429  # without the fast path
    assert metric("onehorizon_quota_rejections_total", tier="standard") == before + 2


def test_the_system_check_accepts_such_a_view() -> None:
    assert problem_of(ReportView.as_view()) == ""


def test_the_openapi_document_describes_such_a_view() -> None:
    generator = SchemaGenerator(urlconf=__name__)  # type: ignore[no-untyped-call]
    document = generator.get_schema(public=True)  # type: ignore[no-untyped-call]

    operation = document["paths"]["/api/v1/reports/{reportId}"]["get"]
    assert {"200", "401", "403", "404", "429"} <= set(operation["responses"])
    assert "summary" not in operation
    assert operation["security"] == [{"apiKey": []}, {"oauth2": ["workspace:read"]}]
