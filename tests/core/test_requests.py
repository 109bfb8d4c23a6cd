"""Whether a request has a body, and which environment variables are removed so that they add nothing to it."""

from __future__ import annotations

import pytest

from core.requests import body_length, remove_request_variables

FIVE_BYTES = {"CONTENT_LENGTH": "5"}
CHUNKED = {"HTTP_TRANSFER_ENCODING": "chunked"}


@pytest.mark.parametrize(
    ("method", "protocol", "headers", "length"),
    [
        ("GET", "HTTP/1.1", {}, 0),
        ("GET", "HTTP/1.1", FIVE_BYTES, 5),
        ("GET", "HTTP/1.1", CHUNKED, None),
        ("POST", "HTTP/1.1", {}, 0),
        ("POST", "HTTP/1.1", {"CONTENT_LENGTH": ""}, 0),
        ("POST", "HTTP/1.1", {"CONTENT_LENGTH": "0"}, 0),
        ("POST", "HTTP/1.1", FIVE_BYTES, 5),
        ("POST", "HTTP/1.1", FIVE_BYTES | CHUNKED, None),
        ("POST", "HTTP/1", {}, 0),
        ("GET", "HTTP/2", {}, 0),
        ("HEAD", "HTTP/2", {}, 0),
        ("POST", "HTTP/2", {}, None),
        ("POST", "HTTP/2", FIVE_BYTES, 5),
    ],
)
def test_the_headers_say_whether_there_is_a_body(
    method: str, protocol: str, headers: dict[str, str], length: int | None
) -> None:
    assert body_length({"REQUEST_METHOD": method, "SERVER_PROTOCOL": protocol, **headers}) == length


def test_variables_of_requests_are_removed_from_the_environment() -> None:
    kept = {"PATH": "/bin", "DATABASE_URL": "sqlite:///x", "HTTP_PROXY": "http://proxy.example", "HTTPS_PROXY": "x"}
    environment = kept | dict.fromkeys(
        ["HTTP_AUTHORIZATION", "HTTP_HOST", "REMOTE_USER", "SCRIPT_URL", *FIVE_BYTES], "x"
    )

    remove_request_variables(environment)

    assert environment == kept
