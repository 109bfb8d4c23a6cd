"""The error format, for all fuzz tests."""

from typing import Any


def require_envelope(status: int, body: Any) -> None:
    """Assert that `body` has exactly `code`, a `message` of one line, and on 400 optionally `errors` by field."""
    assert set(body) - {"errors"} == {"code", "message"}
    assert body["code"] == status
    assert body["message"].strip()
    assert body["message"].isprintable()
    if "errors" in body:
        assert status == 400
        assert all(messages and all(map(str.strip, messages)) for messages in body["errors"].values())
