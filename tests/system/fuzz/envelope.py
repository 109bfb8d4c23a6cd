"""What holds for every refusal, whoever looks."""

from typing import Any


def require_envelope(status: int, body: Any) -> None:
    """`{"code", "message"}`, one line and no more; on 400 perhaps `errors`, by field."""
    assert set(body) - {"errors"} == {"code", "message"}
    assert body["code"] == status
    assert body["message"].strip()
    assert body["message"].isprintable()
    if "errors" in body:
        assert status == 400
        assert all(sentences and all(map(str.strip, sentences)) for sentences in body["errors"].values())
