"""A page of another origin reads the public documents with `fetch`; the browser refuses it everything else."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.helpers import commits

pytestmark = [commits, pytest.mark.one_database("what Chromium lets a page read")]

FETCH = """async ([url, options]) => {
  const response = await fetch(url, options).catch((error) => error.name);
  return typeof response === "string" ? response : [response.status, await response.text()];
}"""


class EmptyPage(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def elsewhere(browser: Browser) -> Iterator[Page]:
    """A page of another origin: another port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), EmptyPage)
    Thread(target=server.serve_forever, daemon=True).start()
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{server.server_port}/")
    yield page
    context.close()
    server.shutdown()
    server.server_close()


def test_a_page_of_another_origin_reads_the_documents_but_not_the_api(elsewhere: Page, site: str, secret: str) -> None:
    def fetch(path: str, **options: Any) -> Any:
        return elsewhere.evaluate(FETCH, [f"{site}{path}", options])

    key = {"headers": {"Authorization": f"Bearer {secret}"}}
    mcp = {"headers": {"MCP-Protocol-Version": "2025-06-18"}}

    assert fetch("/api/v1/openapi.json")[0] == 200
    for options in ({}, mcp):
        status, text = fetch("/.well-known/oauth-authorization-server", **options)
        assert (status, f'"issuer": "{site}"' in text) == (200, True)
    assert fetch("/.well-known/openid-configuration", **mcp)[0] == 404
    assert fetch("/api/v1/openapi.json", method="POST") == [
        405,
        '{"code":405,"message":"Method \\"POST\\" not allowed."}',
    ]

    assert fetch("/api/v1/me", **key) == "TypeError"
    assert fetch("/api/v1/me") == "TypeError"
    assert fetch("/api/v1/openapi.json", **key) == "TypeError"
    assert fetch("/app/auth/token", method="POST") == "TypeError"
    assert fetch("/sign-in/", credentials="include") == "TypeError"
