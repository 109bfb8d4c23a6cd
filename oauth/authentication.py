import hashlib
import re
from typing import Any

from django.utils import timezone
from django.views.decorators.debug import sensitive_variables
from oauth2_provider.models import AccessToken

from apikeys import keys
from apikeys.authentication import Authenticator
from oauth.people import Person

_SHAPE = re.compile(r"[A-Za-z0-9]{30}")  # as oauthlib makes them


class AccessTokenAuthenticator(Authenticator):
    """Every bearer token that isn't an API key: its principal is the `Person` who gave it."""

    kind = "access_token"

    def claims(self, bearer: str) -> bool:
        return not bearer.startswith(f"{keys.MARK}_")

    def is_well_formed(self, bearer: str) -> bool:
        return _SHAPE.fullmatch(bearer) is not None

    @sensitive_variables()
    def principal(self, bearer: str, address: str | None) -> Person | None:
        if not self.is_well_formed(bearer):
            return None
        token: Any = (
            AccessToken.objects.select_related("user", "application")
            .filter(
                token_checksum=hashlib.sha256(bearer.encode()).hexdigest(),
                expires__gt=timezone.now(),
                user__is_active=True,
                application__isnull=False,
            )
            .first()
        )
        return Person(token.user, frozenset(token.scope.split()), token.application.client_id) if token else None
