from django.db import transaction
from django.utils import timezone
from oauth2_provider.models import AccessToken, RefreshToken

from oauth.models import DeviceGrant, Grant
from workspaces.models import User


class EndTokens:
    """Among the validators of passwords: one that is changed, wherever, ends what applications hold of the person.

    Whoever changes it because someone else knows it wants that one out, and sessions end by themselves.
    """

    def validate(self, password: str, user: User | None = None) -> None:
        """Any password will do."""

    def get_help_text(self) -> str:
        return ""

    @transaction.atomic
    def password_changed(self, password: str, user: User) -> None:
        RefreshToken.objects.filter(user=user, revoked=None).update(revoked=timezone.now())
        for model in (AccessToken, Grant, DeviceGrant):
            model.objects.filter(user=user).delete()
