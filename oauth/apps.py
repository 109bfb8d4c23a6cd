from typing import Any

from django.apps import AppConfig
from oauth2_provider.apps import DOTConfig


class OAuthConfig(AppConfig):
    default = True
    name = "oauth"
    verbose_name = "OAuth"

    def ready(self) -> None:
        from workspaces.models import access_ended

        access_ended.connect(revoke_tokens)


class ToolkitConfig(DOTConfig):  # type: ignore[misc]  # the toolkit has no types
    """django-oauth-toolkit, whose models are the tokens. The admin lists them in one section with the applications."""

    verbose_name = OAuthConfig.verbose_name


def revoke_tokens(user: Any, **_: Any) -> None:
    """Revoke the tokens of a user whose access ends."""
    from oauth.models import revoke_all

    revoke_all(user)
