"""Our own checks of each response, besides schemathesis's. SCHEMATHESIS_HOOKS names this module."""

from __future__ import annotations

import json
import os
from typing import Any
from urllib.parse import urlsplit

import django
import schemathesis
from schemathesis import Case, CheckContext, HookContext, Response

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "onehorizon.settings")
django.setup()

from apikeys import keys  # noqa: E402, needs the settings
from tests.described import validate_response  # noqa: E402
from tests.system.fuzz.envelope import require_envelope  # noqa: E402
from workspaces.validators import normalize  # noqa: E402

MAX_LENGTHS = {"title": 200, "description": 100}  # after trimming and NFC
BEARER = os.environ["FUZZ_AUTHORIZATION"].partition(" ")[2]


@schemathesis.hook
def filter_body(context: HookContext, body: Any) -> bool:
    """Skip bodies with a text that only trimming and NFC make valid: the document can't say that limits apply then."""
    texts = [(body.get(name), limit) for name, limit in MAX_LENGTHS.items()] if isinstance(body, dict) else []
    return not any(isinstance(text, str) and len(normalize(text.strip())) <= limit < len(text) for text, limit in texts)


class ResponseAdapter:
    """Gives a response the interface of Django's test client, which `validate_response` expects."""

    def __init__(self, response: Response) -> None:
        self.status_code, self.content, self.headers = response.status_code, response.content, response.headers

    def has_header(self, name: str) -> bool:
        return name.lower() in self.headers

    def __getitem__(self, name: str) -> str:
        return ", ".join(self.headers[name.lower()])

    def json(self) -> Any:
        return json.loads(self.content)


@schemathesis.check
def response_matches_the_document_exactly(ctx: CheckContext, response: Response, case: Case[Any]) -> None:
    validate_response(str(response.request.method), urlsplit(str(response.request.url)).path, ResponseAdapter(response))


@schemathesis.check
def response_has_the_common_headers(ctx: CheckContext, response: Response, case: Case[Any]) -> None:
    adapted = ResponseAdapter(response)
    assert response.status_code < 500
    assert response.status_code != 429  # the limits are lifted, so that they hide no other response
    assert adapted["Cache-Control"] == "no-store"
    assert adapted["X-Request-Id"]
    if response.status_code != 204:
        assert adapted["Content-Type"] == "application/json"


@schemathesis.check
def error_has_the_envelope(ctx: CheckContext, response: Response, case: Case[Any]) -> None:
    if response.status_code >= 400 and response.request.method != "HEAD":
        require_envelope(response.status_code, json.loads(response.content))


@schemathesis.check
def response_contains_no_secret(ctx: CheckContext, response: Response, case: Case[Any]) -> None:
    """Only the response of createApiKey contains a secret: the new one."""
    text = response.content.decode() + str(response.headers)
    assert not BEARER or BEARER not in text
    shown = [match[0] for match in keys.PATTERN.finditer(text) if keys.parse(match[0])]
    created = case.operation.definition.raw["operationId"] == "createApiKey" and response.status_code == 201
    assert shown == ([json.loads(response.content)["secret"]] if created else [])
