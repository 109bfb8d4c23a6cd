from django.db import transaction
from django.utils import timezone
from oauth2_provider.models import AccessToken, RefreshToken

from oauth.models import DeviceGrant, Grant
from workspaces.models import User


class RevokeTokensOnPasswordChange:
    """Revokes the user's OAuth tokens and codes when the password changes. An entry of `AUTH_PASSWORD_VALIDATORS`.

    A user may change the password because someone else knows it. Django ends the user's other sessions by itself.
    """

    def validate(self, password: str, user: User | None = None) -> None:
        """Accept any password."""

    def get_help_text(self) -> str:
        return ""

    @transaction.atomic
    def password_changed(self, password: str, user: User) -> None:
        RefreshToken.objects.filter(user=user, revoked=None).update(revoked=timezone.now())
        for model in (AccessToken, Grant, DeviceGrant):
            model.objects.filter(user=user).delete()
