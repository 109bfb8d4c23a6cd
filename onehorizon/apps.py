from django.apps import AppConfig
from django.conf import settings
from django.contrib.admin import apps
from django.core.cache import close_caches
from django.core.cache.backends.base import BaseCache
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, reset_queries
from django.utils.module_loading import import_string


class OneHorizonConfig(AppConfig):
    name = "onehorizon"

    def ready(self) -> None:
        from onehorizon import checks  # noqa: F401, registers them

        # What Django does around each request to no end here.
        if not settings.DEBUG:
            request_started.disconnect(reset_queries)  # there are none
        if all(import_string(cache["BACKEND"]).close is BaseCache.close for cache in settings.CACHES.values()):
            request_finished.disconnect(close_caches)  # none has anything to close
        if settings.DATABASES["default"]["CONN_MAX_AGE"] != 0:
            request_finished.disconnect(close_old_connections)  # kept ones are looked at when the next request begins


class OperatorsConfig(apps.AdminConfig):
    """Django's admin, on our site instead of its own."""

    default = False  # it is the admin's, not this package's
    default_site = "core.admin.OperatorsSite"
