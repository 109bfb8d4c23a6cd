"""Who asks, by the bearer token of a request (RFC 6750): its principal, which acts for a workspace or is a person."""

from abc import ABC, abstractmethod

from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest
from django.views.decorators.debug import sensitive_variables
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from apikeys import admission, keys
from apikeys.models import ApiKey
from apikeys.throttling import failures
from onehorizon.client import client_address
from onehorizon.metrics import count_authentication
from workspaces.access import Principal
from workspaces.models import User

CHALLENGE = 'Bearer realm="onehorizon"'


@sensitive_variables()
def bearer_of(request: HttpRequest) -> str | None:
    """The token of `Authorization: Bearer …`; None where there is another scheme, or nothing."""
    scheme, _, rest = request.META.get("HTTP_AUTHORIZATION", "").strip(" \t").partition(" ")
    return rest.strip(" ") if scheme.lower() == "bearer" else None


class Authenticator(ABC):
    """Judges one kind of bearer tokens. `AUTHENTICATORS` names those that there are.

    A token that is malformed, unknown, revoked or expired gets one and the same answer, from one and the same place.
    """

    kind: str  # what the metrics call it

    @abstractmethod
    def claims(self, bearer: str) -> bool:
        """Whether it is for this class to say whose this is."""

    @abstractmethod
    def is_well_formed(self, bearer: str) -> bool:
        """Whether it could be somebody's, as far as its form tells."""

    @abstractmethod
    def principal(self, bearer: str, address: str | None) -> Principal | None:
        """Whose token this is, if it is good."""

    @sensitive_variables()
    def authenticate(self, request: HttpRequest, bearer: str) -> Principal:
        """Raises `AuthenticationFailed`, or `RateLimited` where the address has failed too often."""
        address = client_address(request)
        principal = self.principal(bearer, address)
        if principal is None:
            count_authentication(self.kind, "refused" if self.is_well_formed(bearer) else "malformed")
            failures.count(address)
            raise AuthenticationFailed("The API key or access token is not valid.")
        count_authentication(self.kind, "admitted")
        return principal


class ApiKeyAuthenticator(Authenticator):
    """`one_…`"""

    kind = "api_key"

    def claims(self, bearer: str) -> bool:
        return bearer.startswith(f"{keys.MARK}_")

    def is_well_formed(self, bearer: str) -> bool:
        return keys.parse(bearer) is not None

    @sensitive_variables()
    def principal(self, bearer: str, address: str | None) -> ApiKey | None:
        api_key = admission.admit(bearer) or ApiKey.objects.authenticate(bearer)
        if api_key is not None:
            api_key.record_use(address)
        return api_key


class PrincipalAuthentication(BaseAuthentication):
    """DRF's: `request.auth` is the principal that `PrincipalMiddleware` let in, `request.user` its person or nobody."""

    def authenticate(self, request: Request) -> tuple[User | AnonymousUser, Principal] | None:
        principal: Principal | None = getattr(request._request, "principal", None)
        return (principal.person or AnonymousUser(), principal) if principal is not None else None

    def authenticate_header(self, request: Request) -> str:
        return CHALLENGE
