import hashlib
import re
from typing import Any

from django.views.decorators.debug import sensitive_variables
from oauth2_provider.models import AccessToken

from apikeys import keys
from apikeys.authentication import BearerAuthentication
from core.db import contention
from oauth.principals import UserPrincipal
from workspaces.access import CredentialRejected

_FORMAT = re.compile(r"[A-Za-z0-9]{30}")  # the format that oauthlib generates


class AccessTokenAuthentication(BearerAuthentication):
    """Authenticates OAuth access tokens: all bearer tokens without the prefix of an API key."""

    metrics_label = "access_token"

    def handles(self, token: str) -> bool:
        return not token.startswith(f"{keys.PREFIX}_")

    @sensitive_variables()
    def get_principal(self, token: str) -> UserPrincipal:
        """Return the person's principal. A revoked token is unknown: its row is deleted."""
        if not _FORMAT.fullmatch(token):
            raise CredentialRejected("malformed")
        contention.about_to_read("access tokens")
        access_token: Any = (
            AccessToken.objects.select_related("user", "application")
            .filter(
                token_checksum=hashlib.sha256(token.encode()).hexdigest(),
                user__isnull=False,
                application__isnull=False,
            )
            .first()
        )
        if access_token is None:
            raise CredentialRejected("unknown")
        # Without those that the application may no longer request.
        scopes = frozenset(access_token.scope.split()).intersection(access_token.application.scopes)
        principal = UserPrincipal(access_token.user, scopes, access_token.application.client_id)
        if access_token.is_expired():
            raise CredentialRejected("expired", **principal.log_fields)
        if not principal.user.is_active:
            raise CredentialRejected("inactive_user", **principal.log_fields)
        return principal
