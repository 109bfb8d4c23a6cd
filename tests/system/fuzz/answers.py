"""Our own checks of each answer, beside schemathesis's: its command finds this module by SCHEMATHESIS_HOOKS."""

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

from apikeys import keys  # noqa: E402, they need the settings
from tests.described import validate_response  # noqa: E402
from tests.system.fuzz.envelope import require_envelope  # noqa: E402

TRIMMED = {"title": 200, "description": 100}
BEARER = os.environ["FUZZ_AUTHORIZATION"].partition(" ")[2]


@schemathesis.hook
def filter_body(context: HookContext, body: Any) -> bool:
    """Leaves out what is too long only until it is trimmed: the document can't say that lengths are of trimmed text."""
    texts = [(body.get(name), most) for name, most in TRIMMED.items()] if isinstance(body, dict) else []
    return not any(isinstance(text, str) and len(text.strip()) <= most < len(text) for text, most in texts)


class Answer:
    """A response as `validate_response` expects it: like one of Django's test client."""

    def __init__(self, response: Response) -> None:
        self.status_code, self.content, self.headers = response.status_code, response.content, response.headers

    def has_header(self, name: str) -> bool:
        return name.lower() in self.headers

    def __getitem__(self, name: str) -> str:
        return ", ".join(self.headers[name.lower()])

    def json(self) -> Any:
        return json.loads(self.content)


@schemathesis.check
def it_is_described_to_the_last_field(ctx: CheckContext, response: Response, case: Case[Any]) -> None:
    validate_response(str(response.request.method), urlsplit(str(response.request.url)).path, Answer(response))


@schemathesis.check
def it_carries_what_every_answer_does(ctx: CheckContext, response: Response, case: Case[Any]) -> None:
    answer = Answer(response)
    assert response.status_code < 500
    assert response.status_code != 429  # limits are lifted, lest they answer in place of what is tried
    assert answer["Cache-Control"] == "no-store"
    assert answer["X-Request-Id"]
    if response.status_code != 204:
        assert answer["Content-Type"] == "application/json"


@schemathesis.check
def a_refusal_is_the_envelope(ctx: CheckContext, response: Response, case: Case[Any]) -> None:
    if response.status_code >= 400 and response.request.method != "HEAD":
        require_envelope(response.status_code, json.loads(response.content))


@schemathesis.check
def it_gives_no_secret_away(ctx: CheckContext, response: Response, case: Case[Any]) -> None:
    """But for the one in the answer that creates a key."""
    text = response.content.decode() + str(response.headers)
    assert not BEARER or BEARER not in text
    shown = [match[0] for match in keys.PATTERN.finditer(text) if keys.parse(match[0])]
    created = case.operation.definition.raw["operationId"] == "createApiKey" and response.status_code == 201
    assert shown == ([json.loads(response.content)["secret"]] if created else [])
