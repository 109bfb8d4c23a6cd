"""Django and DRF with only what these views need, and a connection pool: the fastest stock setup."""

from typing import Any

import django_stubs_ext
from environs import Env

django_stubs_ext.monkeypatch()

env = Env()

SECRET_KEY: str = env.str("SECRET_KEY")
ALLOWED_HOSTS = [env.str("ALLOWED_HOSTS")]
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "rest_framework",
    "rest_framework_api_key",
    "knox",
    "workspaces",
]
MIDDLEWARE = ["django.middleware.security.SecurityMiddleware", "django.middleware.common.CommonMiddleware"]
ROOT_URLCONF = "bench.peers.urls"
AUTH_USER_MODEL = "workspaces.User"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_I18N = False
USE_TZ = True
TIME_ZONE = "UTC"
DATABASES: dict[str, Any] = {"default": env.dj_db_url("DATABASE_URL")}
DATABASES["default"]["OPTIONS"] = {"pool": {"min_size": 1, "max_size": 4}}
CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": env.str("BENCH_REDIS")}}
SERVER_THREADS = 2  # of the benchmark; our models read it
REST_FRAMEWORK = {"DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"]}
