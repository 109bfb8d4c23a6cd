import hashlib
import re
from typing import Any

from django.utils import timezone
from django.views.decorators.debug import sensitive_variables
from oauth2_provider.models import AccessToken

from apikeys import keys
from apikeys.authentication import BearerAuthentication
from oauth.principals import UserPrincipal

_FORMAT = re.compile(r"[A-Za-z0-9]{30}")  # the format that oauthlib generates


class AccessTokenAuthentication(BearerAuthentication):
    """Authenticates OAuth access tokens: all bearer tokens without the prefix of an API key."""

    metrics_label = "access_token"

    def handles(self, token: str) -> bool:
        return not token.startswith(f"{keys.PREFIX}_")

    def is_well_formed(self, token: str) -> bool:
        return _FORMAT.fullmatch(token) is not None

    @sensitive_variables()
    def get_principal(self, token: str) -> UserPrincipal | None:
        if not self.is_well_formed(token):
            return None
        access_token: Any = (
            AccessToken.objects.select_related("user", "application")
            .filter(
                token_checksum=hashlib.sha256(token.encode()).hexdigest(),
                expires__gt=timezone.now(),
                user__is_active=True,
                application__isnull=False,
            )
            .first()
        )
        if access_token is None:
            return None
        # Without those that the application may no longer request.
        scopes = frozenset(access_token.scope.split()).intersection(access_token.application.scopes)
        return UserPrincipal(access_token.user, scopes, access_token.application.client_id)
