from abc import ABC, abstractmethod

from django.contrib.auth.models import AnonymousUser
from django.views.decorators.debug import sensitive_variables
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from apikeys import keys
from apikeys.models import ApiKey
from apikeys.throttling import failures
from onehorizon.client import client_address
from workspaces.access import Principal
from workspaces.models import User


class BearerAuthentication(BaseAuthentication, ABC):
    """`Authorization: Bearer …` (RFC 6750): `request.auth` is a principal, `request.user` its person or nobody.

    A subclass says which bearer strings it answers for, and whose they are. Another scheme is not ours. A string that
    is malformed, unknown, revoked or expired gets one and the same answer, from one and the same place.
    """

    @abstractmethod
    def claims(self, bearer: str) -> bool:
        """Whether it is for this class to say whose this is."""

    @abstractmethod
    def principal(self, bearer: str, address: str | None) -> Principal | None:
        """Whose bearer string this is, if it is good."""

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="onehorizon"'

    @sensitive_variables()
    def authenticate(self, request: Request) -> tuple[User | AnonymousUser, Principal] | None:
        scheme, _, rest = request.headers.get("Authorization", "").strip(" \t").partition(" ")
        bearer = rest.strip(" ")
        if scheme.lower() != "bearer" or not self.claims(bearer):
            return None
        address = client_address(request)
        principal = self.principal(bearer, address)
        if principal is None:
            failures.count(address)
            raise AuthenticationFailed("The API key or access token is not valid.")
        request._request.log_fields = principal.log_fields  # type: ignore[attr-defined]
        return principal.person or AnonymousUser(), principal


class ApiKeyAuthentication(BearerAuthentication):
    """`one_…`: `request.auth` is the key."""

    def claims(self, bearer: str) -> bool:
        return bearer.startswith(f"{keys.MARK}_")

    @sensitive_variables()
    def principal(self, bearer: str, address: str | None) -> ApiKey | None:
        api_key = ApiKey.objects.authenticate(bearer)
        if api_key is not None:
            api_key.record_use(address)
        return api_key
