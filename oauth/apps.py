from typing import Any

from django.apps import AppConfig


class OAuthConfig(AppConfig):
    name = "oauth"
    verbose_name = "OAuth"

    def ready(self) -> None:
        from workspaces.models import access_ended

        access_ended.connect(revoke_tokens)


def revoke_tokens(user: Any, **_: Any) -> None:
    """Revoke the tokens of a user whose access ends."""
    from oauth.models import revoke_all

    revoke_all(user)
