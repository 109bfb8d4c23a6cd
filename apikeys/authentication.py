from django.contrib.auth.models import AnonymousUser
from django.views.decorators.debug import sensitive_variables
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from apikeys.models import ApiKey
from apikeys.throttling import failures
from onehorizon.client import client_address


class ApiKeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer one_…` (RFC 6750): `request.auth` is the key, `request.user` nobody.

    Another scheme is not ours. A bearer string that is malformed, unknown, revoked or expired gets one and the same
    answer, from one and the same place.
    """

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="onehorizon"'

    @sensitive_variables()
    def authenticate(self, request: Request) -> tuple[AnonymousUser, ApiKey] | None:
        scheme, _, token = request.headers.get("Authorization", "").strip(" \t").partition(" ")
        if scheme.lower() != "bearer":
            return None
        address = client_address(request)
        api_key = ApiKey.objects.authenticate(token.strip(" "))
        if api_key is None:
            failures.count(address)
            raise AuthenticationFailed("The API key is not valid.")
        api_key.record_use(address)
        request._request.log_fields = api_key.log_fields  # type: ignore[attr-defined]
        return AnonymousUser(), api_key
