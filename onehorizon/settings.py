"""Settings. A bad value in the environment raises `ImproperlyConfigured` with one sentence."""

import re
from pathlib import Path
from typing import Any

import django_stubs_ext
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured

from onehorizon.environment import (
    development_secret_key,
    env_bool,
    env_cache,
    env_database,
    env_int,
    env_list,
    env_listener,
    env_networks,
    env_pgbouncer,
    env_str,
    granian_option,
    is_weak_key,
    make_directory,
)
from onehorizon.oauth_settings import OAUTH_SETTINGS
from onehorizon.openapi_settings import OPENAPI_SETTINGS

django_stubs_ext.monkeypatch()  # Django's generic classes take their type arguments at run time too

BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = BASE_DIR / "var"

# ---- this installation ----

DEBUG = env_bool("DEBUG", True)

SECRET_KEY = env_str("SECRET_KEY", "")
if not SECRET_KEY:
    if not DEBUG:
        raise ImproperlyConfigured("SECRET_KEY must be set when DEBUG is off.")
    SECRET_KEY = development_secret_key(VAR_DIR / "secret_key")
SECRET_KEY_FALLBACKS = env_list("SECRET_KEY_FALLBACKS", [])
if not DEBUG and is_weak_key(SECRET_KEY):
    raise ImproperlyConfigured("SECRET_KEY must be 50 random characters or more when DEBUG is off.")
if not DEBUG and any(map(is_weak_key, SECRET_KEY_FALLBACKS)):
    raise ImproperlyConfigured("SECRET_KEY_FALLBACKS must each be 50 random characters or more: leave a weak one out.")

ALLOWED_HOSTS = env_list("ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"] if DEBUG else [])
if not ALLOWED_HOSTS:
    raise ImproperlyConfigured("ALLOWED_HOSTS must name this site's hosts; it may be left out while DEBUG is on.")
if not DEBUG and "*" in ALLOWED_HOSTS:
    raise ImproperlyConfigured("ALLOWED_HOSTS must name this site's hosts when DEBUG is off; * is every host.")
CSRF_TRUSTED_ORIGINS = env_list("CSRF_TRUSTED_ORIGINS", [])
if malformed := [origin for origin in CSRF_TRUSTED_ORIGINS if "://" not in origin]:
    raise ImproperlyConfigured(f"CSRF_TRUSTED_ORIGINS takes origins such as https://example.com: {malformed[0]}")

# What the admin shows as its environment, and the admin's path: fewer scanners find it away from admin/.
ENVIRONMENT = env_str("ENVIRONMENT", "development" if DEBUG else "production", max_length=30)
if DEBUG and ENVIRONMENT == "production":
    raise ImproperlyConfigured("DEBUG must be off when ENVIRONMENT is production.")
ADMIN_URL = env_str("ADMIN_URL", "admin/")
if not re.fullmatch(r"(?!(api|app|docs|w|settings|static|workspaces|sign-in|sign-out)/)([0-9A-Za-z_-]+/)+", ADMIN_URL):
    raise ImproperlyConfigured(
        f"ADMIN_URL takes a path that nothing else uses, such as operators/, with a slash at its end only: {ADMIN_URL}"
    )

# Proxies whose X-Forwarded-For and X-Forwarded-Proto are trusted.
TRUSTED_PROXIES = env_networks("TRUSTED_PROXIES")

# Where Prometheus metrics are served, apart from the public listener. Without it nothing is measured.
METRICS_ADDRESS = env_listener("METRICS_ADDRESS")

# ---- API keys ----

APIKEYS_MAX_ACTIVE = env_int("APIKEYS_MAX_ACTIVE", 20, minimum=1, maximum=10_000)
APIKEYS_ARGON2_TIME_COST = env_int("APIKEYS_ARGON2_TIME_COST", 2, minimum=1, maximum=100)
APIKEYS_ARGON2_MEMORY_COST = env_int("APIKEYS_ARGON2_MEMORY_COST", 19_456, minimum=8, maximum=4_194_304)  # KiB
APIKEYS_ARGON2_PARALLELISM = env_int("APIKEYS_ARGON2_PARALLELISM", 1, minimum=1, maximum=64)
if APIKEYS_ARGON2_MEMORY_COST < 8 * APIKEYS_ARGON2_PARALLELISM:
    raise ImproperlyConfigured("APIKEYS_ARGON2_MEMORY_COST must be at least 8 KiB for each APIKEYS_ARGON2_PARALLELISM.")
# Proofs of verified keys, in each process's memory: how many, and for how many seconds.
APIKEYS_PROOFS_MAX = env_int("APIKEYS_PROOFS_MAX", 10_000, minimum=1, maximum=1_000_000)
APIKEYS_PROOF_SECONDS = env_int("APIKEYS_PROOF_SECONDS", 3600, minimum=1, maximum=86_400)
# Failed authentications per client IP and minute that are answered with 401; further ones get 429.
APIKEYS_FAILURES_PER_MINUTE = env_int("APIKEYS_FAILURES_PER_MINUTE", 120, minimum=1, maximum=100_000)

# ---- Django ----

INSTALLED_APPS = [
    "onehorizon",
    "workspaces",
    "apikeys",
    "oauth",
    "onehorizon.apps.OperatorsConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "csp",
    "oauth2_provider",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
]
MIDDLEWARE = [
    "onehorizon.health.HealthMiddleware",
    "onehorizon.middleware.RequestLogMiddleware",
    "onehorizon.middleware.ForwardedMiddleware",
    "onehorizon.middleware.ApiMiddleware",
    "onehorizon.middleware.QuotaHeadersMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "onehorizon.middleware.PageMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
]
PAGE_MIDDLEWARE = [  # run by PageMiddleware
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
ROOT_URLCONF = "onehorizon.urls"
WSGI_APPLICATION = "onehorizon.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
            "builtins": ["workspaces.templatetags.moments"],
        },
    }
]
STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
STATICFILES_DIRS = [BASE_DIR / "static"]
WHITENOISE_USE_FINDERS = WHITENOISE_AUTOREFRESH = DEBUG
if not DEBUG:
    STORAGES = {
        "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
        "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
    }

# ---- people, sessions and forms ----

AUTH_USER_MODEL = "workspaces.User"
LOGIN_URL = "sign-in"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "sign-in"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "oauth.passwords.EndTokens"},
]
SESSION_ENGINE = "core.sessions"
SESSION_COOKIE_AGE = 14 * 24 * 3600
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"  # used by the admin
CSRF_FAILURE_VIEW = "onehorizon.errors.csrf_failure"
# django_ratelimit: without a shared cache, the limits on forms count per process; onehorizon.checks warns of that.
# oauth2_provider: oauth.models.Application allows redirects over plain HTTP to loopback addresses only.
# admin: its middleware is in PAGE_MIDDLEWARE.
SILENCED_SYSTEM_CHECKS = ["django_ratelimit.E003", "django_ratelimit.W001", "oauth2_provider.W008"]
SILENCED_SYSTEM_CHECKS += ["admin.E408", "admin.E409", "admin.E410"]

SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
    }
}
FILE_UPLOAD_HANDLERS = ["core.requests.NoUploads"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["workspaces.hashers.PasswordHasher", "django.contrib.auth.hashers.PBKDF2PasswordHasher"]
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_I18N = False
USE_TZ = True

MAX_CONNECTIONS = 16  # of one process, to PostgreSQL
DATABASES = {"default": env_database("DATABASE_URL", f"sqlite:///{VAR_DIR / 'onehorizon.sqlite3'}")}
database = DATABASES["default"]
if database["NAME"] in ("", ":memory:"):
    raise ImproperlyConfigured("DATABASE_URL must name a database, for SQLite a file: memory is a connection's own.")
if database["ENGINE"] == "django.db.backends.sqlite3":
    if not DEBUG and granian_option("workers", 1) > 1:
        raise ImproperlyConfigured("DATABASE_URL must be a postgres:// address for several workers; SQLite takes one.")
    make_directory(Path(database["NAME"]).parent)
    database["CONN_MAX_AGE"] = None
    database["OPTIONS"] = {
        # A transaction takes the write lock when it begins: upgrading a read lock fails at once under threads.
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode = WAL",
    }
    # A file, since tests run threads and processes against it, and memory is a connection's own.
    database["TEST"] = {"NAME": f"{database['NAME']}.test"}
elif database["ENGINE"] == "django.db.backends.postgresql":
    database["ENGINE"] = "core.db.postgresql"
    database.setdefault("OPTIONS", {})["pgbouncer"] = pooled = env_pgbouncer("DATABASE_URL")
    database["DISABLE_SERVER_SIDE_CURSORS"] = pooled
    # A thread keeps its connection, unless there are more of them than of connections.
    database["CONN_MAX_AGE"] = 600 if granian_option("blocking-threads", MAX_CONNECTIONS + 1) <= MAX_CONNECTIONS else 0
    database["OPTIONS"].update(
        {
            # A pool that failed to connect tries again within `reconnect_timeout` seconds, as long as it is asked.
            "pool": {"min_size": 1, "max_size": MAX_CONNECTIONS, "timeout": 3, "reconnect_timeout": 2},
            "connect_timeout": 3,
            "target_session_attrs": "read-write",  # after a failover, not the standby that was the primary
            # A host that vanishes without a word is given up after some 10 s.
            "keepalives_idle": 4,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": 10_000,
            "prepare_threshold": 0,  # for core.db.statements; the ORM's are bound on the client
        }
    )
else:
    raise ImproperlyConfigured("DATABASE_URL must be a sqlite:// or a postgres:// address.")

# With Django's default of 300 entries, anyone could push another client's count, and so its limit, out of the cache.
CACHE_SIZE = {"MAX_ENTRIES": 100_000}
CACHES: dict[str, dict[str, Any]] = {
    "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "OPTIONS": CACHE_SIZE}
}
if env_str("CACHE_URL", ""):
    CACHES = {
        "default": env_cache("CACHE_URL"),
        "forms": {"BACKEND": "core.ratelimits.SharedOrOwnCache", "LOCATION": "forms", "OPTIONS": CACHE_SIZE},
    }
    RATELIMIT_USE_CACHE = "forms"
    if CACHES["default"]["BACKEND"] == "django.core.cache.backends.redis.RedisCache":
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        # A form waits at most half a second for an unresponsive cache.
        CACHES["default"].setdefault("OPTIONS", {}).update(
            {"socket_timeout": 0.5, "socket_connect_timeout": 0.5, "retry": Retry(NoBackoff(), 0)}
        )

if not DEBUG:
    SECURE_SSL_REDIRECT = True
    SECURE_HSTS_SECONDS = 365 * 24 * 3600
    SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    SECURE_HSTS_PRELOAD = True
    SESSION_COOKIE_SECURE = True
    CSRF_COOKIE_SECURE = True
# ForwardedMiddleware drops the header unless a trusted proxy sent it.
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "apikeys.authentication.ApiKeyAuthentication",
        "oauth.authentication.AccessTokenAuthentication",
    ],
    "DEFAULT_THROTTLE_CLASSES": ["apikeys.throttling.QuotaThrottle"],
    "DEFAULT_PERMISSION_CLASSES": ["apikeys.permissions.PrincipalRequired", "apikeys.permissions.ScopeRequired"],
    "DEFAULT_RENDERER_CLASSES": ["core.formats.OrjsonRenderer"],
    "DEFAULT_PARSER_CLASSES": ["core.formats.OrjsonParser"],
    "DEFAULT_METADATA_CLASS": None,
    "EXCEPTION_HANDLER": "onehorizon.errors.exception_handler",
    "URL_FORMAT_OVERRIDE": None,
    "DEFAULT_SCHEMA_CLASS": "onehorizon.openapi.Schema",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
}

SPECTACULAR_SETTINGS = OPENAPI_SETTINGS

# ---- OAuth ----

OAUTH2_PROVIDER_APPLICATION_MODEL = "oauth.Application"
OAUTH2_PROVIDER_GRANT_MODEL = "oauth.Grant"
OAUTH2_PROVIDER_DEVICE_GRANT_MODEL = "oauth.DeviceGrant"
OAUTH2_PROVIDER = OAUTH_SETTINGS

DEFAULT_EXCEPTION_REPORTER = "core.reports.Reporter"
DEFAULT_EXCEPTION_REPORTER_FILTER = "core.reports.ReportFilter"
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"()": "core.logs.LineFormatter"},
        "json": {"()": "core.logs.JsonFormatter"},
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line" if DEBUG else "json"}},
    "root": {"handlers": ["stderr"], "level": "INFO"},
    "loggers": {
        "django": {"handlers": ["stderr"], "level": "INFO", "propagate": False},
        "django.request": {"level": "ERROR"},  # a 4xx has its line from RequestLogMiddleware
    },
}
