"""The first requests to a process, which may arrive at the same moment."""

import pytest

from tests.processes import in_processes


@pytest.mark.parametrize("path", ["/api/v1/openapi.json", "/docs/api/"])
def test_the_first_requests_at_the_same_moment_succeed(path: str) -> None:
    outputs = in_processes(
        4,
        f"""
        import sys
        from django.test import Client
        from tests.processes import in_threads
        sys.setswitchinterval(1e-6)  # seconds: a thread can be interrupted anywhere
        client = Client(raise_request_exception=False, headers={{"Host": "localhost"}})
        for response in in_threads(*[lambda: client.get({path!r})] * 4):
            print(response.status_code)
        """,
    )

    assert outputs == ["200\n" * 4] * 4
