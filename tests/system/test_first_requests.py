"""The first requests to a process, which may arrive at the same moment."""

from tests.processes import in_processes


def test_the_first_requests_for_the_openapi_document_get_it() -> None:
    outputs = in_processes(
        12,
        """
        import sys
        from django.test import Client
        from tests.processes import in_threads
        client = Client(raise_request_exception=False, headers={"Host": "localhost"})
        client.get("/healthz")  # loads the URLs, so that the threads meet in the generator
        sys.setswitchinterval(1e-5)  # seconds: threads are interrupted often
        first = in_threads(*[lambda: client.get("/api/v1/openapi.json")] * 4)
        later = client.get("/api/v1/openapi.json")
        for response in first:
            print(response.status_code, response.content == later.content)
        """,
    )

    assert outputs == ["200 True\n" * 4] * 12
