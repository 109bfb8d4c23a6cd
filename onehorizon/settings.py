"""Settings, from the environment alone. A bad value raises `ImproperlyConfigured` with one sentence."""

import ipaddress
import os
import re
import secrets
import sys
from pathlib import Path
from typing import Any

import django_stubs_ext
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured
from environs import Env, EnvError, EnvValidationError, validate

django_stubs_ext.monkeypatch()  # Django's generic classes take their type arguments at run time too

BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = BASE_DIR / "var"

env = Env()
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


@env.parser_for("listener")
def listener(value: str) -> tuple[str, int] | None:
    """`127.0.0.1:9401`; port 0 is any that is free."""
    if not value:
        return None
    host, _, port = value.rpartition(":")
    if not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise ValueError("it takes an address and a port, such as 127.0.0.1:9401.")
    return str(ipaddress.ip_address(host.strip("[]"))), int(port)


@env.parser_for("networks")
def networks(value: str) -> list[IPNetwork]:
    """Comma-separated addresses or networks: `10.0.0.7, 2001:db8::/32`."""
    return [ipaddress.ip_network(item.strip()) for item in value.split(",") if item.strip()]


def read(kind: str, name: str, default: Any = ..., **options: Any) -> Any:
    try:
        return getattr(env, kind)(name, default, **options)
    except EnvValidationError as error:
        why = " ".join(map(str, error.error_messages))
        raise ImproperlyConfigured(f'Environment variable "{name}" invalid: {why}') from None
    except EnvError as error:
        raise ImproperlyConfigured(str(error)) from None
    except ValueError as error:
        raise ImproperlyConfigured(f'Environment variable "{name}" invalid: {error}') from None


def listed(name: str, default: list[str]) -> list[str]:
    return [item.strip() for item in read("list", name, default) if item.strip()]


def make_directory(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImproperlyConfigured(f"The directory {path} can't be made: {error.strerror}.") from None


def kept_secret_key(path: Path) -> str:
    """The development key: made on the first run, then the same for every process of this checkout."""
    make_directory(path.parent)
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    fresh.touch(mode=0o600)
    fresh.write_text(secrets.token_urlsafe(50))
    try:
        path.hardlink_to(fresh)
    except FileExistsError:
        pass
    finally:
        fresh.unlink()
    return path.read_text()


def is_weak(key: str) -> bool:
    """Whether a signing key could be guessed: Django's own measure."""
    return len(key) < 50 or len(set(key)) < 5 or key.startswith("django-insecure-")


def granian(option: str, default: int) -> int:
    """`workers` or `blocking-threads` as granian's command line or environment tell: a worker has both."""
    named = re.findall(rf"--{option}[ =](\d+)", " ".join(sys.argv)) if "granian" in sys.argv[0] else []
    return int(named[-1]) if named else int(read("int", f"GRANIAN_{option.upper().replace('-', '_')}", default))


# ---- what this installation is ----

DEBUG: bool = read("bool", "DEBUG", True)

SECRET_KEY: str = read("str", "SECRET_KEY", "")
if not SECRET_KEY:
    if not DEBUG:
        raise ImproperlyConfigured("SECRET_KEY must be set when DEBUG is off.")
    SECRET_KEY = kept_secret_key(VAR_DIR / "secret_key")
SECRET_KEY_FALLBACKS = listed("SECRET_KEY_FALLBACKS", [])
if not DEBUG and is_weak(SECRET_KEY):
    raise ImproperlyConfigured("SECRET_KEY must be 50 random characters or more when DEBUG is off.")
if not DEBUG and any(map(is_weak, SECRET_KEY_FALLBACKS)):
    raise ImproperlyConfigured("SECRET_KEY_FALLBACKS must each be 50 random characters or more: leave a weak one out.")

ALLOWED_HOSTS = listed("ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"] if DEBUG else [])
if not ALLOWED_HOSTS:
    raise ImproperlyConfigured("ALLOWED_HOSTS must name this site's hosts; it may be left out while DEBUG is on.")
if not DEBUG and "*" in ALLOWED_HOSTS:
    raise ImproperlyConfigured("ALLOWED_HOSTS must name this site's hosts when DEBUG is off; * is every host.")
CSRF_TRUSTED_ORIGINS = listed("CSRF_TRUSTED_ORIGINS", [])
if strangers := [origin for origin in CSRF_TRUSTED_ORIGINS if "://" not in origin]:
    raise ImproperlyConfigured(f"CSRF_TRUSTED_ORIGINS takes origins such as https://example.com: {strangers[0]}")

# What the operators' admin says it is working on, and where it is: off /admin/ fewer scanners find it.
ENVIRONMENT: str = read(
    "str", "ENVIRONMENT", "development" if DEBUG else "production", validate=validate.Length(min=1, max=30)
)
if DEBUG and ENVIRONMENT == "production":
    raise ImproperlyConfigured("DEBUG must be off when ENVIRONMENT is production.")
ADMIN_URL: str = read("str", "ADMIN_URL", "admin/")
if not re.fullmatch(r"(?!(api|app|docs|w|settings|static|workspaces|sign-in|sign-out)/)([0-9A-Za-z_-]+/)+", ADMIN_URL):
    raise ImproperlyConfigured(
        f"ADMIN_URL takes a path that nothing else uses, such as operators/, with a slash at its end only: {ADMIN_URL}"
    )

# Whose X-Forwarded-For and X-Forwarded-Proto are believed.
TRUSTED_PROXIES: list[IPNetwork] = read("networks", "TRUSTED_PROXIES", "")

# Where Prometheus finds the metrics, off the public listener; unset, nothing is measured.
METRICS_ADDRESS: tuple[str, int] | None = read("listener", "METRICS_ADDRESS", "")

# ---- API keys ----

APIKEYS_MAX_ACTIVE: int = read("int", "APIKEYS_MAX_ACTIVE", 20, validate=validate.Range(min=1, max=10_000))
APIKEYS_ARGON2_TIME_COST: int = read("int", "APIKEYS_ARGON2_TIME_COST", 2, validate=validate.Range(1, 100))
APIKEYS_ARGON2_MEMORY_COST: int = read(  # KiB
    "int", "APIKEYS_ARGON2_MEMORY_COST", 19_456, validate=validate.Range(8, 4_194_304)
)
APIKEYS_ARGON2_PARALLELISM: int = read("int", "APIKEYS_ARGON2_PARALLELISM", 1, validate=validate.Range(1, 64))
if APIKEYS_ARGON2_MEMORY_COST < 8 * APIKEYS_ARGON2_PARALLELISM:
    raise ImproperlyConfigured("APIKEYS_ARGON2_MEMORY_COST must be at least 8 KiB for each APIKEYS_ARGON2_PARALLELISM.")
# Proofs of keys that were verified in this process: how many, and for how many seconds each.
APIKEYS_PROOFS_MAX: int = read("int", "APIKEYS_PROOFS_MAX", 10_000, validate=validate.Range(1, 1_000_000))
APIKEYS_PROOF_SECONDS: int = read("int", "APIKEYS_PROOF_SECONDS", 3600, validate=validate.Range(1, 86_400))
# Failed authentications that one client address is answered with 401, a minute; 429 after that.
APIKEYS_FAILURES_PER_MINUTE: int = read("int", "APIKEYS_FAILURES_PER_MINUTE", 120, validate=validate.Range(1, 100_000))

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

# ---- people at the page ----

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
SESSION_ENGINE = "onehorizon.sessions"
SESSION_COOKIE_AGE = 14 * 24 * 3600
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"  # the admin's; nothing of them in cookies
CSRF_FAILURE_VIEW = "onehorizon.errors.csrf_failure"
# A shared cache makes the limits on the page's forms exact over several hosts; without one they hold per process.
# Plain http redirects: oauth.models.Application lets them go to loopback addresses alone.
# The admin looks for its middleware in MIDDLEWARE; it is in PAGE_MIDDLEWARE.
SILENCED_SYSTEM_CHECKS = [
    "django_ratelimit.E003",
    "django_ratelimit.W001",
    "oauth2_provider.W008",
    "admin.E408",
    "admin.E409",
    "admin.E410",
]

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
FILE_UPLOAD_HANDLERS = ["onehorizon.requests.NoUploads"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = [
    "workspaces.hashers.PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_I18N = False
USE_TZ = True

MAX_CONNECTIONS = 16  # of one process, to PostgreSQL
DATABASES: dict[str, dict[str, Any]] = {
    "default": read("dj_db_url", "DATABASE_URL", f"sqlite:///{VAR_DIR / 'onehorizon.sqlite3'}")
}
database = DATABASES["default"]
if database["NAME"] in ("", ":memory:"):
    raise ImproperlyConfigured("DATABASE_URL must name a database, for SQLite a file: memory is a connection's own.")
if database["ENGINE"] == "django.db.backends.sqlite3":
    if not DEBUG and granian("workers", 1) > 1:
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
    database["ENGINE"] = "onehorizon.postgresql"
    # A thread keeps its connection, unless there are more of them than of connections.
    database["CONN_MAX_AGE"] = 600 if granian("blocking-threads", MAX_CONNECTIONS + 1) <= MAX_CONNECTIONS else 0
    database.setdefault("OPTIONS", {}).update(
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
        }
    )
    database["OPTIONS"]["prepare_threshold"] = 0  # for onehorizon.statements; the ORM's are bound on the client
else:
    raise ImproperlyConfigured("DATABASE_URL must be a sqlite:// or a postgres:// address.")

# Django's own bound, 300 counts, would let anyone crowd somebody's count out, and with it the limit.
COUNTS_KEPT = {"MAX_ENTRIES": 100_000}
CACHES: dict[str, dict[str, Any]] = {
    "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "OPTIONS": COUNTS_KEPT}
}
if cache_url := read("str", "CACHE_URL", ""):
    CACHES = {
        "default": read("dj_cache_url", "CACHE_URL", cache_url),
        "forms": {
            "BACKEND": "onehorizon.ratelimits.SharedOrOwnCache",
            "LOCATION": "forms",
            "OPTIONS": COUNTS_KEPT,
        },
    }
    RATELIMIT_USE_CACHE = "forms"
    if CACHES["default"]["BACKEND"] == "django.core.cache.backends.redis.RedisCache":
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        # A form waits half a second for a cache that is silent, once.
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
    "DEFAULT_RENDERER_CLASSES": ["onehorizon.formats.OrjsonRenderer"],
    "DEFAULT_PARSER_CLASSES": ["onehorizon.formats.OrjsonParser"],
    "DEFAULT_METADATA_CLASS": None,
    "EXCEPTION_HANDLER": "onehorizon.errors.exception_handler",
    "URL_FORMAT_OVERRIDE": None,
    "DEFAULT_SCHEMA_CLASS": "onehorizon.openapi.Schema",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
}

SPECTACULAR_SETTINGS = {
    "OAS_VERSION": "3.1.1",
    "TITLE": "One Horizon",
    "DESCRIPTION": "A workspace's tasks, members and API keys. Read the conventions at https://onehorizon.ai/docs/api.",
    "VERSION": "1",
    "SERVERS": [{"url": "https://onehorizon.ai"}],
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "TAGS": [
        {"name": "Tasks", "description": "The work of a workspace."},
        {"name": "ApiKeys", "description": "Credentials of a workspace, for its owners and admins."},
        {"name": "Workspaces", "description": "Where everything else belongs, and who is in it."},
        {"name": "Me", "description": "The principal of the request."},
    ],
    "CAMELIZE_NAMES": True,
    "DISABLE_DOCSTRING_DESCRIPTIONS": True,
    "SORT_OPERATION_PARAMETERS": False,
    "ENUM_NAME_OVERRIDES": {
        "TaskStatus": "workspaces.models.TaskStatus",
        "TaskKind": "workspaces.models.TaskKind",
        "TaskScope": "workspaces.models.TaskScope",
        "TaskVisibility": "workspaces.models.TaskVisibility",
        "TaskContributionType": "workspaces.models.TaskContributionType",
        "Role": "workspaces.models.Role",
        "ApiKeyStatus": "apikeys.models.STATUSES",
    },
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "POSTPROCESSING_HOOKS": ["drf_spectacular.hooks.postprocess_schema_enums", "onehorizon.openapi.finish"],
}

# ---- OAuth ----

OAUTH2_PROVIDER_APPLICATION_MODEL = "oauth.Application"
OAUTH2_PROVIDER_GRANT_MODEL = "oauth.Grant"
OAUTH2_PROVIDER_DEVICE_GRANT_MODEL = "oauth.DeviceGrant"
OAUTH2_PROVIDER = {
    "OAUTH2_SERVER_CLASS": "oauth.server.AuthorizationServer",
    "OAUTH2_VALIDATOR_CLASS": "oauth.server.Validator",
    "SCOPES": {  # in the words of the consent page
        "openid": "Know your user id, and your role in the workspace you are working in",
        "profile": "See your name",
        "email": "See your email address",
        "workspace:read": "Read the tasks and the members of your workspaces",
        "workspace:write": "Create, change and delete tasks in your workspaces",
        "api-keys:manage": "Create, rename and revoke API keys where you are an owner or admin",
    },
    "DEFAULT_SCOPES": ["workspace:read"],
    "AUTHORIZATION_CODE_EXPIRE_SECONDS": 60,
    "ACCESS_TOKEN_EXPIRE_SECONDS": 3600,
    "REFRESH_TOKEN_EXPIRE_SECONDS": 30 * 24 * 3600,
    "REFRESH_TOKEN_REUSE_PROTECTION": True,
    "OAUTH_PRE_TOKEN_VALIDATION": [],
    "OAUTH2_RESPONSE_TYPES_SUPPORTED": ["code"],
    "OAUTH2_GRANT_TYPES_SUPPORTED": [
        "authorization_code",
        "refresh_token",
        "urn:ietf:params:oauth:grant-type:device_code",
    ],
    "OAUTH2_TOKEN_ENDPOINT_AUTH_METHODS_SUPPORTED": ["none", "client_secret_post", "client_secret_basic"],
    "COMPLIANT_BCP_RFC9700_IMPLICIT_GRANT": True,
    "COMPLIANT_BCP_RFC9700_PASSWORD_GRANT": True,
    "COMPLIANT_BCP_RFC9700_PKCE_METHOD": True,
    "COMPLIANT_BCP_RFC9700_ACCESS_TOKEN_TRANSPORT": True,
    "COMPLIANT_BCP_RFC9700_AUTHZ_RESPONSE_ISS": True,
    "COMPLIANT_BCP_RFC9700_TOKEN_STORAGE": True,
    "COMPLIANT_BCP_RFC9700_REFRESH_TOKEN": True,
    "COMPLIANT_BCP_RFC9700_REDIRECT_URI_MATCHING": True,
    "COMPLIANT_BCP_RFC9700_PKCE_REQUIRED": True,
}

DEFAULT_EXCEPTION_REPORTER = "onehorizon.reports.Reporter"
DEFAULT_EXCEPTION_REPORTER_FILTER = "onehorizon.reports.ReportFilter"
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"()": "onehorizon.logs.LineFormatter"},
        "json": {"()": "onehorizon.logs.JsonFormatter"},
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line" if DEBUG else "json"}},
    "root": {"handlers": ["stderr"], "level": "INFO"},
    "loggers": {
        "django": {"handlers": ["stderr"], "level": "INFO", "propagate": False},
        "django.request": {"level": "ERROR"},  # a 4xx has its line from RequestLogMiddleware
    },
}
