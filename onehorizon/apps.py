from django.apps import AppConfig
from django.conf import settings
from django.contrib.admin import apps
from django.contrib.auth.signals import user_logged_in
from django.core.cache import close_caches
from django.core.cache.backends.base import BaseCache
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, reset_queries
from django.utils.module_loading import import_string


class OneHorizonConfig(AppConfig):
    name = "onehorizon"

    def ready(self) -> None:
        from core.sessions import record_sign_in
        from onehorizon import checks  # noqa: F401, registers the system checks

        user_logged_in.connect(record_sign_in)
        # Disconnect Django's signal handlers that are not needed here.
        if not settings.DEBUG:
            request_started.disconnect(reset_queries)  # queries are logged only with DEBUG
        if all(import_string(cache["BACKEND"]).close is BaseCache.close for cache in settings.CACHES.values()):
            request_finished.disconnect(close_caches)  # these caches have no connections to close
        if settings.DATABASES["default"]["CONN_MAX_AGE"] != 0:
            request_finished.disconnect(close_old_connections)  # it also runs when the next request starts


class OperatorsConfig(apps.AdminConfig):
    """Django's admin, with our `AdminSite`."""

    default = False  # `OneHorizonConfig` is this package's default app config
    default_site = "core.admin.OperatorsSite"
