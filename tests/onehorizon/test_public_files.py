"""Files whose URLs are fixed, in `public/`: browsers and crawlers ask for them by name."""

from __future__ import annotations

import struct
from typing import Any
from urllib.robotparser import RobotFileParser

import pytest
from django.test import Client

from onehorizon.checks import api_routes
from onehorizon.documents import NAMES
from onehorizon.paths import PUBLIC_FILES
from tests.processes import ROOT
from tests.test_patterns import example_path, pages

pytestmark = pytest.mark.django_db  # when a response is closed, Django looks at the connections


def get(path: str, **headers: str) -> tuple[Any, bytes]:
    """Return the response and its body."""
    response: Any = Client(headers=headers).get(path)
    body = response.getvalue()
    response.close()
    return response, body


def test_every_file_is_served() -> None:
    assert {f"/{file.name}" for file in (ROOT / "public").iterdir()} == set(PUBLIC_FILES)


def test_the_icon_has_the_usual_sizes() -> None:
    response, icon = get("/favicon.ico")
    reserved, kind, count = struct.unpack_from("<HHH", icon)
    entries = [struct.unpack_from("<BBBBHHII", icon, 6 + 16 * index) for index in range(count)]

    assert response["Content-Type"] == "image/x-icon"
    assert (reserved, kind, [entry[0] for entry in entries]) == (0, 1, [16, 32, 48])
    for *_, size, offset in entries:
        image = icon[offset : offset + size]
        assert (image[:8], image[-8:-4]) == (b"\x89PNG\r\n\x1a\n", b"IEND")


@pytest.mark.parametrize("path", PUBLIC_FILES)
def test_a_file_can_be_cached_and_sets_no_cookie(path: str) -> None:
    response, _ = get(path)

    assert (response.status_code, dict(response.cookies)) == (200, {})
    assert "public" in response["Cache-Control"]
    unchanged, body = get(path, **{"If-None-Match": response["ETag"]})
    assert (unchanged.status_code, body) == (304, b"")


@pytest.mark.parametrize("path", PUBLIC_FILES)
def test_other_methods_are_rejected(path: str) -> None:
    assert Client().head(path).status_code == 200
    for method in ("POST", "PUT", "DELETE"):
        response = Client().generic(method, path)
        assert (response.status_code, response["Allow"], response["Cache-Control"]) == (405, "GET, HEAD", "no-store")


def test_crawlers_may_only_read_the_documentation() -> None:
    response, text = get("/robots.txt")
    robots = RobotFileParser()
    robots.parse(text.decode().splitlines())
    paths = {example_path(route) for route in [*pages(), *api_routes()]}

    assert response["Content-Type"].startswith("text/plain")
    documentation = {"/docs/1/", *(f"/docs/{name}/" for name in NAMES), "/api/docs", "/static/css/app.css"}
    assert [path for path in documentation if not robots.can_fetch("Googlebot", path)] == []
    assert {path for path in paths if robots.can_fetch("Googlebot", path)} == {"/docs/", "/docs/1/"}
    assert {"/sign-in/", "/admin/", "/api/v1/me"} <= paths
    assert b"admin" not in text  # ADMIN_URL may hide it
