"""Bearer tokens (RFC 6750) as DRF authentication classes."""

import re
from abc import ABC, abstractmethod
from copy import copy
from typing import Any, ClassVar

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest
from django.views.decorators.debug import sensitive_variables
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import APIException, AuthenticationFailed
from rest_framework.request import Request

from apikeys import admission, keys
from apikeys.models import StoredSecret
from apikeys.principals import ApiKeyPrincipal
from apikeys.throttling import failures
from core.client_ip import client_ip
from core.logs import bind
from core.metrics import count_authentication
from workspaces.access import CredentialRejected, Principal
from workspaces.models import User

# The metadata of the API, whose URL is BASE_URL/api/v1, is at the URL that RFC 9728, section 3.1 constructs from that.
RESOURCE_METADATA_PATH = "/.well-known/oauth-protected-resource/api/v1"

# Headers and query parameters in which other APIs expect a key.
_OTHER_HEADER = re.compile(r"HTTP_(X_|PROXY_)?(API_?KEY|(AUTH|ACCESS)_?TOKEN|AUTHORIZATION)")
_PARAMETER = re.compile(r"(\A|&)(key|token|api[_-]?key|(auth|access)[_-]?token|authorization)=", re.IGNORECASE)


def challenge(**parameters: str) -> str:
    """Return a `WWW-Authenticate` header with these parameters (RFC 6750, section 3).

    The last one, `resource_metadata`, leads a client to the authorization server (RFC 9728, section 5.1).
    """
    metadata_url = f"{settings.BASE_URL}{RESOURCE_METADATA_PATH}"
    all_parameters = {"realm": "onehorizon"} | parameters | {"resource_metadata": metadata_url}
    return "Bearer " + ", ".join(f'{name}="{value}"' for name, value in all_parameters.items())


@sensitive_variables()
def bearer_token(request: Request) -> str | None:
    """Return the token of `Authorization: Bearer …`, or None for another scheme, no token or no header."""
    scheme, _, rest = request.META.get("HTTP_AUTHORIZATION", "").strip(" \t").partition(" ")
    return rest.strip(" ") or None if scheme.lower() == "bearer" else None


def sends_key_elsewhere(request: HttpRequest | Request) -> bool:
    """Return whether a request without a bearer token sends credentials in another scheme, header or parameter.

    Looks at names only, so the result does not depend on whether a secret is valid.
    """
    if request.META.get("HTTP_AUTHORIZATION", "").strip(" \t").lower() not in ("", "bearer"):
        return True
    headers = (name for name in request.META if name != "HTTP_AUTHORIZATION")
    return any(map(_OTHER_HEADER.fullmatch, headers)) or bool(_PARAMETER.search(request.META.get("QUERY_STRING", "")))


class BearerAuthentication(BaseAuthentication, ABC):
    """Base class for one kind of bearer token.

    Sets `request.auth` to the principal and `request.user` to its user or `AnonymousUser`. The outcome also stays on
    the `HttpRequest`: the principal, which the request log and the RateLimit headers read, or the error. Authenticating
    the same request again reuses it, so neither a success nor a failure counts twice.
    """

    metrics_label: ClassVar[str]

    @abstractmethod
    def handles(self, token: str) -> bool:
        """Return whether `token` is of this class's kind."""

    @abstractmethod
    def get_principal(self, token: str) -> Principal:
        """Return the principal of `token`. Raise `CredentialRejected` if the token is not valid."""

    @sensitive_variables()
    def authenticate(self, request: Request) -> tuple[User | AnonymousUser, Principal] | None:
        """Return the user and the principal, or None if the request has no token of this kind.

        Raise `AuthenticationFailed`, with the same message for malformed, unknown, revoked and expired tokens, or
        `RateLimited` after too many failures from one client IP.
        """
        token = bearer_token(request)
        if token is None or not self.handles(token):
            return None
        http_request: Any = request._request  # Any: these attributes are ours
        if hasattr(http_request, "authentication_error"):
            raise copy(http_request.authentication_error)
        if not hasattr(http_request, "principal"):
            try:
                http_request.principal = self._authenticate(token, client_ip(http_request))
            except APIException as error:
                http_request.authentication_error = copy(error)  # without the traceback, which refers to the request
                raise
        principal: Principal = http_request.principal
        return principal.user or AnonymousUser(), principal

    @sensitive_variables()
    def _authenticate(self, token: str, ip: str | None) -> Principal:
        try:
            principal = self.get_principal(token)
        except CredentialRejected as rejection:
            bind(reason=rejection.reason, **rejection.log_fields)
            count_authentication(self.metrics_label, "rejected", rejection.reason)
            failures.count(ip)
            raise AuthenticationFailed("The API key or access token is not valid.") from None
        bind(**principal.log_fields)
        count_authentication(self.metrics_label, "authenticated")
        principal.record_use(ip)
        return principal

    def authenticate_header(self, request: Request) -> str:
        """Return the challenge of a 401; `error` is only for a request that sent a token (RFC 6750, section 3.1)."""
        return challenge() if bearer_token(request) is None else challenge(error="invalid_token")


class ApiKeyAuthentication(BearerAuthentication):
    """Authenticates API keys: `Authorization: Bearer one_…`."""

    metrics_label = "api_key"

    def handles(self, token: str) -> bool:
        return token.startswith(f"{keys.PREFIX}_")

    @sensitive_variables()
    def get_principal(self, token: str) -> ApiKeyPrincipal:
        if principal := admission.authenticate(token):
            return principal
        return ApiKeyPrincipal(StoredSecret.objects.authenticate(token))
