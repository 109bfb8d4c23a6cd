"""Settings. A bad value in the environment raises `ImproperlyConfigured` with one sentence."""

import re
from pathlib import Path

import django_stubs_ext
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured

from onehorizon.databases import database_settings, server_threads
from onehorizon.environment import (
    development_secret_key,
    env_base_url,
    env_cache,
    env_contact,
    env_debug,
    env_directory,
    env_hosts,
    env_int,
    env_label,
    env_list,
    env_listener,
    env_networks,
    env_origins,
    env_str,
    is_weak_key,
)
from onehorizon.oauth_settings import OAUTH_SETTINGS, REFRESH_TOKEN_LIFETIME
from onehorizon.openapi_settings import OPENAPI_SETTINGS

django_stubs_ext.monkeypatch()  # lets Django's generic classes have type arguments at run time

BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = BASE_DIR / "var"

# ---- this installation ----

DEBUG = env_debug()

SECRET_KEY = env_str("SECRET_KEY", "")
if not SECRET_KEY:
    if not DEBUG:
        raise ImproperlyConfigured("SECRET_KEY must be set when DEBUG is off.")
    SECRET_KEY = development_secret_key(VAR_DIR / "secret_key")
SECRET_KEY_FALLBACKS = env_list("SECRET_KEY_FALLBACKS", [])
if not DEBUG and is_weak_key(SECRET_KEY):
    raise ImproperlyConfigured("SECRET_KEY must be 50 random characters or more when DEBUG is off.")
if not DEBUG and any(map(is_weak_key, SECRET_KEY_FALLBACKS)):
    raise ImproperlyConfigured("SECRET_KEY_FALLBACKS must each be 50 random characters or more: remove weak ones.")

ALLOWED_HOSTS = env_hosts("ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"] if DEBUG else [])
if not ALLOWED_HOSTS:
    raise ImproperlyConfigured("ALLOWED_HOSTS must list this site's hosts; it is optional only while DEBUG is on.")
if not DEBUG and "*" in ALLOWED_HOSTS:
    raise ImproperlyConfigured("ALLOWED_HOSTS must list this site's hosts when DEBUG is off; * allows every host.")
CSRF_TRUSTED_ORIGINS = env_origins("CSRF_TRUSTED_ORIGINS")
# The public URL. OAuth clients compare the issuer with it, so it must not depend on a request's Host header.
BASE_URL = env_base_url("BASE_URL", ALLOWED_HOSTS, debug=DEBUG)
# Where to report a vulnerability, as /.well-known/security.txt says. Without it there is no such file.
SECURITY_CONTACT = env_contact("SECURITY_CONTACT")
# Pages name it to people who need an operator.
SUPPORT_CONTACT = env_contact("SUPPORT_CONTACT")

# The environment's name, which the admin shows.
ENVIRONMENT = env_label("ENVIRONMENT", "development" if DEBUG else "production", max_length=30)
if DEBUG and ENVIRONMENT.lower() == "production":
    raise ImproperlyConfigured("DEBUG must be off when ENVIRONMENT is production.")
# The path of the admin. Scanners try admin/, so an operator can choose another.
ADMIN_URL = env_str("ADMIN_URL", "admin/")
if not re.fullmatch(r"(?!(api|app|docs|w|settings|static|workspaces|sign-in|sign-out)/)([0-9A-Za-z_-]+/)+", ADMIN_URL):
    raise ImproperlyConfigured("ADMIN_URL must be an unused path that ends with a slash, such as operators/.")

# Proxies whose X-Forwarded-For and X-Forwarded-Proto are trusted.
TRUSTED_PROXIES = env_networks("TRUSTED_PROXIES")

# The IP address and port for Prometheus metrics. Without it nothing is measured.
METRICS_ADDRESS = env_listener("METRICS_ADDRESS")
# The directory that deploy/backup writes to. Without it no metric has the time of the newest backup.
BACKUP_DIR = env_directory("BACKUP_DIR")

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
# How long the numbers of requests per key and hour are kept.
APIKEYS_USAGE_DAYS = env_int("APIKEYS_USAGE_DAYS", 90, minimum=1, maximum=3_650)

# ---- audit events ----

AUDIT_RETENTION_DAYS = env_int("AUDIT_RETENTION_DAYS", 0, minimum=0, maximum=36_500)  # 0: forever
AUDIT_ARCHIVE_DIR = env_directory("AUDIT_ARCHIVE_DIR") or VAR_DIR / "audit"  # older events are moved there

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
    "corsheaders",
    "csp",
    "oauth.apps.ToolkitConfig",
    "rest_framework",
    "drf_spectacular",
]
MIDDLEWARE = [
    "onehorizon.middleware.DefaultHeadersMiddleware",
    "onehorizon.health.HealthMiddleware",
    "onehorizon.middleware.RequestLogMiddleware",
    "onehorizon.middleware.ForwardedMiddleware",
    "corsheaders.middleware.CorsMiddleware",  # outside all that returns errors: these must be readable too
    "onehorizon.middleware.ApiMiddleware",
    "onehorizon.middleware.PrincipalMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "onehorizon.middleware.BodyMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",  # outside PageMiddleware: static files need no session
    "onehorizon.middleware.PageMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
]
PAGE_MIDDLEWARE = [  # run by PageMiddleware
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "core.sessions.StaffSessionMiddleware",
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
            "builtins": ["workspaces.templatetags.moments", "workspaces.templatetags.support"],
        },
    }
]
STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
STATICFILES_DIRS = [BASE_DIR / "static"]
WHITENOISE_ROOT = BASE_DIR / "public"  # files whose URLs are fixed: /favicon.ico, /robots.txt
WHITENOISE_USE_FINDERS = WHITENOISE_AUTOREFRESH = DEBUG
if not DEBUG:
    STORAGES = {
        "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
        "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
    }

# ---- users, sessions and forms ----

AUTH_USER_MODEL = "workspaces.User"
LOGIN_URL = "sign-in"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "sign-in"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "oauth.passwords.RevokeTokensOnPasswordChange"},
]
SESSION_ENGINE = "core.sessions"
FORM_RENDERER = "core.forms.FormRenderer"
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"  # of the admin and the key pages
CSRF_FAILURE_VIEW = "onehorizon.errors.csrf_failure"
# django_ratelimit: without a shared cache the limits on forms count per process; onehorizon.checks warns about it.
# oauth2_provider: oauth.models.Application allows redirects over plain HTTP to loopback IPs only.
# admin: the middleware that it requires is in PAGE_MIDDLEWARE.
SILENCED_SYSTEM_CHECKS = ["django_ratelimit.E003", "django_ratelimit.W001", "oauth2_provider.W008"]
SILENCED_SYSTEM_CHECKS += ["admin.E408", "admin.E409", "admin.E410"]

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
# Pages of every origin may read the public documents for programs, but not the API: keys don't belong in browsers.
CORS_URLS_REGEX = r"/(api/v1/openapi\.json\Z|\.well-known/(?!change-password\Z))"
CORS_ALLOW_ALL_ORIGINS = True  # at these URLs
CORS_ALLOW_METHODS = ["GET", "HEAD", "OPTIONS"]
CORS_ALLOW_HEADERS = ["Accept", "Content-Type", "MCP-Protocol-Version"]  # MCP clients send the last one; never a key
CORS_EXPOSE_HEADERS = ["Retry-After", "X-Request-Id"]
FILE_UPLOAD_HANDLERS = ["core.requests.NoUploads"]
BODY_SECONDS = 10  # for the whole body of a request to arrive
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["workspaces.hashers.PasswordHasher", "django.contrib.auth.hashers.PBKDF2PasswordHasher"]
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_I18N = False
FORMAT_MODULE_PATH = "onehorizon.formats"

SERVER_THREADS = server_threads()
DATABASES = {"default": database_settings(VAR_DIR / "onehorizon.sqlite3", debug=DEBUG)}

# With Django's default of 300 entries, a client could evict the counts of rate limits from the cache.
CACHE_SIZE = {"MAX_ENTRIES": 100_000}
CACHES = {"default": env_cache("CACHE_URL", CACHE_SIZE)}
LIMITS_BACKEND = (
    "core.ratelimits.SharedOrOwnCache"
    if "LOCATION" in CACHES["default"]
    else "django.core.cache.backends.locmem.LocMemCache"
)
# Separate, so that failed authentications can't evict the counts of forms.
CACHES |= {name: {"BACKEND": LIMITS_BACKEND, "LOCATION": name, "OPTIONS": CACHE_SIZE} for name in ("forms", "failures")}
RATELIMIT_USE_CACHE = "forms"

if not DEBUG:
    SECURE_SSL_REDIRECT = True
    SECURE_HSTS_SECONDS = 365 * 24 * 3600
    SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    SECURE_HSTS_PRELOAD = True
    SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True
    SESSION_COOKIE_NAME, CSRF_COOKIE_NAME = "__Host-sessionid", "__Host-csrftoken"  # accepted from this host only
# ForwardedMiddleware removes the header unless a trusted proxy sent it.
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
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "core.formats.QuickNegotiation",
    "DEFAULT_METADATA_CLASS": None,
    "EXCEPTION_HANDLER": "onehorizon.errors.exception_handler",
    "URL_FORMAT_OVERRIDE": None,
    "DEFAULT_SCHEMA_CLASS": "onehorizon.openapi.Schema",
}

SPECTACULAR_SETTINGS = OPENAPI_SETTINGS

# ---- OAuth ----

OAUTH2_PROVIDER_APPLICATION_MODEL = "oauth.Application"
OAUTH2_PROVIDER_GRANT_MODEL = "oauth.Grant"
OAUTH2_PROVIDER_DEVICE_GRANT_MODEL = "oauth.DeviceGrant"
OAUTH2_PROVIDER = OAUTH_SETTINGS | {
    "OIDC_ISS_ENDPOINT": BASE_URL,  # the issuer, also without OpenID Connect
    "OAUTH2_PROTECTED_RESOURCE_NAME": "One Horizon API",
    "OAUTH2_PROTECTED_RESOURCE_DOCUMENTATION": f"{BASE_URL}/docs/api/",
}
OAUTH_REFRESH_TOKEN_LIFETIME = REFRESH_TOKEN_LIFETIME

DEFAULT_EXCEPTION_REPORTER = "core.reports.Reporter"
DEFAULT_EXCEPTION_REPORTER_FILTER = "core.reports.ReportFilter"
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"()": "core.logs.LineFormatter"},
        "json": {"()": "core.logs.JsonFormatter"},
    },
    "filters": {
        "request_fields": {"()": "core.logs.RequestFieldsFilter"},
        "exceptions": {"()": "django.utils.log.CallbackFilter", "callback": lambda record: record.exc_info is not None},
        "without_traceback": {"()": "core.logs.WithoutTracebackFilter"},
    },
    "handlers": {
        "stderr": {
            "class": "logging.StreamHandler",
            "formatter": "line" if DEBUG else "json",
            "filters": ["request_fields"],
        }
    },
    "root": {"handlers": ["stderr"], "level": "INFO"},
    "loggers": {
        "django": {"handlers": ["stderr"], "level": "INFO", "propagate": False},
        "granian.access": {"handlers": ["stderr"], "level": "INFO", "propagate": False},  # with --access-log
        "_granian": {"handlers": ["stderr"], "propagate": False},  # its level is granian's --log-level
        # RequestLogMiddleware logs every status already.
        "django.request": {"level": "ERROR", "filters": ["exceptions"]},
        # Anybody can send any Host.
        "django.security.DisallowedHost": {"filters": ["without_traceback"]},
    },
}
