"""What requests of OAuth clients contain: credentials and the client IP."""

import base64
from urllib.parse import unquote_plus

from django.http import HttpRequest
from django.views.decorators.debug import sensitive_variables
from oauthlib.common import Request

from core.client_ip import client_ip


@sensitive_variables()
def basic_credentials(authorization: str) -> tuple[str, str] | None:
    """Return the client id and the secret of an Authorization header (RFC 6749, 2.3.1), or None if it isn't Basic.

    Both are blank if the header is malformed.
    """
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        client_id, _, secret = base64.b64decode(encoded).decode().partition(":")
    except ValueError:
        return "", ""
    client_id, secret = unquote_plus(client_id), unquote_plus(secret)
    return (client_id, secret) if "\0" not in client_id else ("", "")  # PostgreSQL would raise an error


def ip_of(request: Request) -> str | None:
    """Return the client IP of a request of oauthlib, whose headers are Django's `META`."""
    http_request = HttpRequest()
    http_request.META = request.headers
    return client_ip(http_request)
