"""`prompt` and `max_age`: which pages a client wants or forbids (OpenID Connect Core, section 3.1.2.1)."""

import re
import time
from typing import Any

from django.http import HttpRequest
from oauthlib.common import Request
from oauthlib.oauth2.rfc6749 import errors

from core.sessions import SIGNED_IN_AT

NO_PROMPT = "none"  # the client wants an error instead of a page
SIGN_IN_PROMPTS = {"login", "select_account"}  # the user signs in again, as the same person or another one
PROMPTS = {NO_PROMPT, "consent", *SIGN_IN_PROMPTS}
MAX_AGE = re.compile(r"[0-9]{1,9}")


def require_known_prompt(request: Request) -> dict[str, Any]:
    """Raise `InvalidRequestError` for an invalid `prompt` or `max_age`. For oauthlib's `custom_validators`."""
    prompts = set((request.prompt or "").split())
    if not prompts <= PROMPTS or (NO_PROMPT in prompts and len(prompts) > 1):
        values = ", ".join(sorted(PROMPTS - {NO_PROMPT}))
        raise errors.InvalidRequestError(f"prompt must be none, or one or more of {values}.", request=request)
    if request.max_age and not MAX_AGE.fullmatch(request.max_age):
        raise errors.InvalidRequestError("max_age must be a number of seconds.", request=request)
    return {}


def prompts_of(request: HttpRequest) -> set[str]:
    """Return the values of `prompt` in an authorization request."""
    return set(request.GET.get("prompt", "").split())


def must_sign_in_again(request: HttpRequest) -> bool:
    """Return whether a user who is signed in must sign in again, as the client requires."""
    max_age = request.GET.get("max_age", "")
    age = time.time() - request.session.get(SIGNED_IN_AT, 0)
    is_too_old = MAX_AGE.fullmatch(max_age) is not None and age > int(max_age)
    return is_too_old or bool(SIGN_IN_PROMPTS & prompts_of(request))


def url_after_sign_in(request: HttpRequest) -> str:
    """Return the URL of this authorization request without the parameters that a new sign-in satisfies."""
    query = request.GET.copy()
    for name in ("prompt", "max_age"):
        query.pop(name, None)
    if prompts := prompts_of(request) - SIGN_IN_PROMPTS:
        query["prompt"] = " ".join(prompts)
    return f"{request.path}?{query.urlencode()}"
