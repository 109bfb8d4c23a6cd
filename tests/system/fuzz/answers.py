"""Our own checks of each response, besides schemathesis's. SCHEMATHESIS_HOOKS names this module."""

from __future__ import annotations

import hashlib
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
USER = os.environ["FUZZ_USER"]  # the id of the person who sends the requests; empty for a key and nobody
MEMBERS: list[str] = json.loads(os.environ["FUZZ_MEMBERS"])  # user ids, of the workspace that the credential can reach


@schemathesis.hook
def filter_case(context: HookContext, case: Case[Any]) -> bool:
    """Skip bodies with a text that only trimming and NFC make valid: the document can't say that limits apply then."""
    body = case.body if isinstance(case.body, dict) else {}
    texts = [(body.get(name), limit) for name, limit in MAX_LENGTHS.items()]
    return not any(isinstance(text, str) and len(normalize(text.strip())) <= limit < len(text) for text, limit in texts)


@schemathesis.hook
def before_call(context: HookContext, case: Case[Any], kwargs: dict[str, Any]) -> None:
    """Give a valid request values that the API accepts, where the document can't say which ones it accepts."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    if isinstance(case.body, dict):
        case.body = acceptable(case.body)
    if "from" in (case.query or {}):
        case.query |= period(case.query)
    if "Idempotency-Key" in case.headers:  # it is for one body only
        body = json.dumps(case.body, sort_keys=True, default=repr)  # without a body it is an object that says so
        key = f"{case.headers['Idempotency-Key']} {body}"
        case.headers["Idempotency-Key"] = hashlib.sha256(key.encode()).hexdigest()


def acceptable(body: dict[str, Any]) -> dict[str, Any]:
    """Return the body with ids of members instead of other ids, and a future expiry.

    Private tasks belong to the person who sends the request: nobody else can fetch them, and no key.
    """
    body = dict(body)
    if body.get("visibility") == "private" and USER:
        body["userId"] = USER
    elif "userId" in body or "visibility" in body:
        body |= {"userId": member(body.get("userId")), "visibility": "team"}  # a changed task may be private
    if "contributors" in body:
        people = [item | {"userId": member(item["userId"])} for item in body["contributors"]]
        body["contributors"] = list({(item["userId"], item["type"]): item for item in people}.values())
    if body.get("expiresAt"):
        body["expiresAt"] = "2096" + body["expiresAt"][4:]  # a leap year
    return body


def period(query: dict[str, str]) -> dict[str, str]:
    """Return `from` and `to` of a query with other dates, so that they are a period of usage that is not too long."""
    start = query["from"]
    return {"from": f"2000-01-01{start[10:]}", "to": f"2000-01-10{query.get('to', start)[10:]}"}


def member(user_id: str | None) -> str | None:
    """Return the id if it is a member's, another member's otherwise, or None for None."""
    return user_id if user_id in (None, *MEMBERS) else MEMBERS[0]


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
    """Only the responses of createApiKey and rotateApiKey contain a secret: the new one."""
    adapted = ResponseAdapter(response)
    text = response.content.decode() + str(response.headers)
    assert not BEARER or BEARER not in text
    shown = [match[0] for match in keys.PATTERN.finditer(text) if keys.parse(match[0])]
    creates = case.operation.definition.raw["operationId"] in ("createApiKey", "rotateApiKey")
    has_secret = creates and response.status_code < 300 and not adapted.has_header("Idempotent-Replayed")
    assert shown == ([json.loads(response.content)["secret"]] if has_secret else [])
