from collections.abc import Iterable
from typing import Any

from oauth2_provider.scopes import SettingsScopes

from oauth.models import Application


class ApplicationScopes(SettingsScopes):  # type: ignore[misc]  # without types
    """The scopes of the settings. An application may request those in its list only."""

    def get_available_scopes(self, application: Application | None = None, *args: Any, **kwargs: Any) -> Iterable[str]:
        if application is not None:
            return list(application.scopes)
        return list(super().get_available_scopes())
