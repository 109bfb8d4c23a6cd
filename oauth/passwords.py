from oauth.models import revoke_all
from workspaces.models import User


class RevokeTokensOnPasswordChange:
    """Revokes the user's OAuth tokens and codes when the password changes. An entry of `AUTH_PASSWORD_VALIDATORS`.

    A user may change the password because someone else knows it. Django ends the user's other sessions by itself.
    """

    def validate(self, password: str, user: User | None = None) -> None:
        """Accept any password."""

    def get_help_text(self) -> str:
        return ""

    def password_changed(self, password: str, user: User) -> None:
        revoke_all(user)
