"""Health checks. tests/system/faults tests them while PostgreSQL is unavailable."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client


@pytest.fixture
def probe(settings: Any) -> Client:
    """A load balancer in production: it uses plain HTTP, and its Host header is not in `ALLOWED_HOSTS`."""
    settings.DEBUG, settings.SECURE_SSL_REDIRECT, settings.ALLOWED_HOSTS = False, True, ["onehorizon.example"]
    return Client(headers={"Host": "10.0.0.9:8000"})


def test_healthz_needs_no_database(probe: Client) -> None:
    """Without the fixture `db`, pytest-django rejects every query."""
    response = probe.get("/healthz")

    assert (response.status_code, response.json()) == (200, {"status": "ok"})
    assert response["Cache-Control"] == "no-store"
    assert not response.cookies


@pytest.mark.django_db
def test_readyz_is_200_when_every_migration_is_applied(probe: Client) -> None:
    assert (probe.get("/readyz").status_code, probe.get("/readyz").json()) == (200, {"status": "ok"})


@pytest.mark.django_db
def test_readyz_is_503_while_a_migration_is_missing(probe: Client) -> None:
    recorder = MigrationRecorder(connection)
    latest = recorder.migration_qs.filter(app="apikeys").order_by("-name").values_list("name", flat=True)[0]
    recorder.record_unapplied("apikeys", latest)

    response = probe.get("/readyz")

    assert (response.status_code, response["Retry-After"]) == (503, "5")
    assert response.json() == {"code": 503, "message": "Database migrations have not been applied yet."}


@pytest.mark.django_db
def test_readyz_is_200_with_migrations_of_a_newer_release(probe: Client) -> None:
    MigrationRecorder(connection).record_applied("apikeys", "9999_from_the_next_release")

    assert probe.get("/readyz").status_code == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_only_get_and_head_are_allowed(probe: Client, path: str) -> None:
    response = probe.post(path)

    assert (response.status_code, response["Allow"]) == (405, "GET, HEAD")
    assert response["Cache-Control"] == "no-store"


def test_probes_are_not_logged(probe: Client, caplog: pytest.LogCaptureFixture) -> None:
    probe.get("/healthz")

    assert caplog.records == []


def test_every_other_path_still_requires_an_allowed_host(probe: Client) -> None:
    assert probe.get("/healthz/").status_code in (301, 400)
    assert probe.get("/api/v1/me").status_code == 400
