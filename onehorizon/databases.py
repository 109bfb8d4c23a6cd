"""The entry of `DATABASES` for DATABASE_URL: SQLite or PostgreSQL, with the options that the product needs.

Each function raises `ImproperlyConfigured` with one sentence that names the variable and never shows a password.
"""

from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from django.core.exceptions import ImproperlyConfigured

from onehorizon.environment import env, granian_option, improperly_configured, make_directory

MAX_CONNECTIONS = 16  # to PostgreSQL, per process


def database_settings(default: Path, *, debug: bool) -> dict[str, Any]:
    """Return the settings of the database at DATABASE_URL, or of the SQLite file `default`."""
    database = env_database("DATABASE_URL", f"sqlite:///{default}")
    if database["NAME"] in ("", ":memory:"):
        raise ImproperlyConfigured(
            "DATABASE_URL must name a database, for SQLite a file: connections can't share memory."
        )
    if database["ENGINE"] == "django.db.backends.sqlite3":
        if not debug and granian_option("workers", 1) > 1:
            raise ImproperlyConfigured(
                "DATABASE_URL must be a postgres:// URL for several workers; SQLite supports one."
            )
        return database | _sqlite_settings(database["NAME"])
    if database["ENGINE"] == "django.db.backends.postgresql":
        return database | _postgresql_settings(database.get("OPTIONS", {}))
    raise ImproperlyConfigured("DATABASE_URL must be a sqlite:// or a postgres:// URL.")


def server_threads() -> int:
    """Return how many threads of this process run requests. Without a server, assume more than connections."""
    return granian_option("blocking-threads", MAX_CONNECTIONS + 1)


def _sqlite_settings(name: str) -> dict[str, Any]:
    make_directory(Path(name).parent)
    return {
        "CONN_MAX_AGE": None,
        "OPTIONS": {
            # Take the write lock when a transaction begins: upgrading a read lock later fails if another thread writes.
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode = WAL",
        },
        # A file: tests use threads and processes, and connections can't share an in-memory database.
        "TEST": {"NAME": f"{name}.test"},
    }


def _postgresql_settings(url_options: dict[str, Any]) -> dict[str, Any]:
    pooled = env_pgbouncer("DATABASE_URL")
    return {
        "ENGINE": "core.db.postgresql",
        "DISABLE_SERVER_SIDE_CURSORS": pooled,
        # A thread keeps its connection between requests, unless there are more threads than connections.
        "CONN_MAX_AGE": 600 if server_threads() <= MAX_CONNECTIONS else 0,
        "OPTIONS": {
            **url_options,
            "pgbouncer": pooled,
            # After a failure the pool retries for `reconnect_timeout` seconds, and again at the next request.
            "pool": {"min_size": 1, "max_size": MAX_CONNECTIONS, "timeout": 3, "reconnect_timeout": 2},
            "connect_timeout": 3,
            "target_session_attrs": "read-write",  # after a failover, not the standby that was the primary
            # Drop the connection to an unresponsive host after about 10 s.
            "keepalives_idle": 4,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": 10_000,
            "prepare_threshold": 0,  # for core.db.statements; the ORM binds its parameters on the client
        },
    }


def env_database(name: str, default: str) -> dict[str, Any]:
    """Return the entry of `DATABASES` for a URL."""
    with improperly_configured(name):
        return dict(env.dj_db_url(name, default))


# Parameters that the URL of a PostgreSQL database may set. Any other could silently override one of our settings.
URL_PARAMETERS = {
    *("pgbouncer", "application_name", "currentSchema", "options", "host", "hostaddr", "port", "passfile"),
    *("sslmode", "sslrootcert", "sslcert", "sslkey", "sslpassword", "sslcrl", "sslcrldir", "sslsni", "sslnegotiation"),
    *("sslcertmode", "ssl_min_protocol_version", "ssl_max_protocol_version", "channel_binding", "require_auth"),
    *("gssencmode", "krbsrvname", "gsslib", "gssdelegation", "requirepeer", "load_balance_hosts"),
}


def env_pgbouncer(name: str) -> bool:
    """Return whether the URL of a PostgreSQL database declares a pooler.

    Raise `ImproperlyConfigured` if the URL has parameters that are not allowed, repeated or contradictory.
    """
    parameters = parse_qsl(urlsplit(env.str(name)).query, keep_blank_values=True)
    names = {parameter for parameter, _ in parameters}
    if rejected := sorted(names - URL_PARAMETERS):
        raise ImproperlyConfigured(f"{name} can't set {', '.join(rejected)}.")
    if len(names) < len(parameters) or {"currentSchema", "options"} <= names:
        raise ImproperlyConfigured(f"{name} must set each parameter once, and currentSchema or options, not both.")
    pgbouncer = dict(parameters).get("pgbouncer", "false")
    if pgbouncer not in ("true", "false"):
        raise ImproperlyConfigured(f"{name} takes pgbouncer=true or pgbouncer=false.")
    if pgbouncer == "true" and names & {"currentSchema", "options"}:
        raise ImproperlyConfigured(f"{name} can't set currentSchema or options with pgbouncer=true.")
    return pgbouncer == "true"
