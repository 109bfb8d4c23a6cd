"""The lengths of responses and the log lines of a real server."""

from __future__ import annotations

from pathlib import Path

from apikeys import keys
from tests.helpers import commits
from tests.processes import fetch, server

TASKS = "/workspaces/current/tasks"
SECRET = keys.generate().secret


@commits
def test_responses_have_a_content_length_and_are_not_chunked(site: str, secret: str) -> None:
    for path, expected in ((TASKS, 200), ("/nowhere", 404)):
        status, headers, body = fetch(f"{site}/api/v1{path}", secret)

        assert status == expected
        assert headers["content-length"] == str(len(body))
        assert "transfer-encoding" not in headers


def test_a_server_logs_one_line_per_request(tmp_path: Path) -> None:
    log = tmp_path / "server.log"

    with server(log) as site:
        fetch(f"{site}/api/v1/me?from=the-query", SECRET[:-1])

    (line,) = [line for line in log.read_text().splitlines() if "/api/v1/me" in line]
    assert " INFO onehorizon.requests: GET /api/v1/me status=401 " in line
    assert "the-query" not in log.read_text()
    assert SECRET[17:40] not in log.read_text()
