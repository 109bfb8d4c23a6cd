"""The entry of `DATABASES` for DATABASE_URL: SQLite or PostgreSQL, with the options that the product needs.

Each function raises `ImproperlyConfigured` with one sentence that names the variable and never shows a password.
"""

import ipaddress
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

from onehorizon.environment import env_str, improperly_configured, make_directory, server_option

MAX_CONNECTIONS = 16  # to PostgreSQL, per process

# Parameters that the URL of a PostgreSQL database may set, and patterns of the values that libpq accepts. Any other
# parameter could silently override one of our settings. libpq rejects a wrong value only when it connects.
TLS_VERSION = r"TLSv1(\.[123])?"
AUTHENTICATION = "(password|md5|gss|sspi|scram-sha-256|none)"
URL_PARAMETERS = {
    **dict.fromkeys(["application_name", "currentSchema", "options", "host", "requirepeer", "krbsrvname"], ".+"),
    **dict.fromkeys(["passfile", "sslrootcert", "sslcert", "sslkey", "sslcrl", "sslcrldir", "sslpassword"], ".+"),
    **dict.fromkeys(["sslsni", "gssdelegation"], "[01]"),
    **dict.fromkeys(["ssl_min_protocol_version", "ssl_max_protocol_version"], TLS_VERSION),
    **dict.fromkeys(["channel_binding", "gssencmode"], "disable|prefer|require"),
    "pgbouncer": "true|false",
    "hostaddr": ".+",
    "port": "[0-9]+(,[0-9]+)*",
    "sslmode": "disable|allow|prefer|require|verify-ca|verify-full",
    "sslnegotiation": "postgres|direct",
    "sslcertmode": "disable|allow|require",
    "require_auth": f"!?{AUTHENTICATION}(,!?{AUTHENTICATION})*",
    "gsslib": "gssapi|sspi",
    "load_balance_hosts": "disable|random",
}
FILES = {"passfile", "sslrootcert", "sslcert", "sslkey", "sslcrl", "sslcrldir"}
HOST = r"(/[^,]*|[0-9a-z_.:%-]+)"
HOSTS = re.compile(rf"({HOST}(,{HOST})*)?")
# A URL that names several servers, and one of these servers. A comma before the last @ belongs to the password.
SEVERAL_SERVERS = re.compile(
    r"((?:postgres|postgresql|pgsql)://(?:[^/?#]*@)?)([^/?#@]*,[^/?#@]*)((?:[/?#].*)?)", re.DOTALL
)
SERVER = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[0-9A-Za-z_.%-]+)(?::([0-9]+))?")
BAD_SERVER = "DATABASE_URL must name a host in ASCII and a port from 1 to 65535."


def database_settings(default: Path, *, debug: bool) -> dict[str, Any]:
    """Return the settings of the database at DATABASE_URL, or of the SQLite file `default`."""
    if "DATABASE_URL" not in os.environ:
        return _sqlite_settings(str(default), debug=debug)
    url, servers = _separate_servers(env_str("DATABASE_URL", ""))
    with improperly_configured("DATABASE_URL"):
        database: dict[str, Any] = {**dj_database_url.parse(url), **servers}
    if url != url.strip() or re.search(r"[\x00-\x1f\x7f]", unquote(url)):
        raise ImproperlyConfigured("DATABASE_URL must not contain surrounding spaces or control characters.")
    match database["ENGINE"]:
        case "django.db.backends.sqlite3":
            return _sqlite_settings(_sqlite_file(url, database["NAME"]), debug=debug)
        case "django.db.backends.postgresql":
            return database | _postgresql_settings(_url_parameters(url, database), database["HOST"])
    raise ImproperlyConfigured("DATABASE_URL must be a sqlite:// or a postgres:// URL.")


def _separate_servers(url: str) -> tuple[str, dict[str, str]]:
    """Return a URL that names several servers without them, and their hosts and ports as libpq expects them.

    Python's parser accepts one port only. `postgres://me@a:5432,b:5433/x` is `postgres://me@/x`, with the hosts `a,b`
    and the ports `5432,5433`. Any other URL is returned as it is.
    """
    several = SEVERAL_SERVERS.fullmatch(url)
    if several is None:
        return url, {}
    servers = [SERVER.fullmatch(server) for server in several[2].split(",")]
    ports = [int(server[2] or 5432) if server else 0 for server in servers]
    if not all(0 < port <= 65535 for port in ports):
        raise ImproperlyConfigured(BAD_SERVER)
    hosts = ",".join(unquote(server[1]).strip("[]") for server in servers if server)
    has_ports = any(server and server[2] for server in servers)
    return several[1] + several[3], {"HOST": hosts, "PORT": ",".join(map(str, ports)) if has_ports else ""}


def _sqlite_file(url: str, name: str) -> str:
    """Return the path of the file that a sqlite:// URL names."""
    if name in ("", ":memory:") or name.startswith("file:"):
        raise ImproperlyConfigured("DATABASE_URL must name a file for SQLite: connections can't share memory.")
    if not url.startswith("sqlite:///") or "?" in url or "#" in url:
        raise ImproperlyConfigured(
            "DATABASE_URL must be sqlite:/// and the path of a file, without host and parameters: ? is %3F, # is %23."
        )
    if name.endswith("/") or Path(name).is_dir():
        raise ImproperlyConfigured("DATABASE_URL must name a file for SQLite, not a directory.")
    return name


def _url_parameters(url: str, database: dict[str, Any]) -> dict[str, str]:
    """Return the parameters of a postgres:// URL, as text."""
    parts = urlsplit(url)
    if "#" in url or "@" in parts.path + parts.query:
        raise ImproperlyConfigured("DATABASE_URL must percent-encode special characters: / is %2F, ? is %3F, # is %23.")
    if not re.match("[a-z]+://", url) or not database["NAME"] or "/" in parts.path[1:]:
        raise ImproperlyConfigured("DATABASE_URL must name a database, as in postgres://user@host:5432/name.")
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    parameters = dict(pairs)
    if rejected := sorted(parameters.keys() - URL_PARAMETERS):
        raise ImproperlyConfigured(f"DATABASE_URL can't set {', '.join(map(ascii, rejected))}.")
    if len(parameters) < len(pairs):
        raise ImproperlyConfigured("DATABASE_URL must set each parameter once.")
    for name, value in parameters.items():
        if not _is_accepted(name, value):
            raise ImproperlyConfigured(f"DATABASE_URL has a value for {name} that PostgreSQL's client does not accept.")
    ports = "0" if parts.port == 0 else str(database["PORT"])  # the parser of the URL drops port 0
    _check_servers(database["HOST"], ports, parameters)
    _check_combinations(parameters)
    return parameters


def _is_accepted(name: str, value: str) -> bool:
    if not re.fullmatch(URL_PARAMETERS[name], value):
        return False
    match name:
        case "port":
            return all(0 < int(port) <= 65535 for port in value.split(","))
        case "hostaddr":
            return all(map(_is_ip, value.split(",")))
    return name not in FILES or (name, value) == ("sslrootcert", "system") or Path(value).exists()


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _check_servers(hosts: str, ports: str, parameters: dict[str, str]) -> None:
    """Check the hosts and ports, which are before the path or among the parameters."""
    if ports == "0" or not HOSTS.fullmatch(hosts.lower()):
        raise ImproperlyConfigured(BAD_SERVER)
    if (hosts and "host" in parameters) or (ports and "port" in parameters):
        raise ImproperlyConfigured("DATABASE_URL must name the host and the port once.")
    count = (hosts or parameters.get("host", "")).count(",")
    addresses, ports = parameters.get("hostaddr", ""), ports or parameters.get("port", "")
    if "hostaddr" in parameters:
        if (hosts or "host" in parameters) and addresses.count(",") != count:
            raise ImproperlyConfigured("DATABASE_URL must have as many values of hostaddr as hosts.")
        count = addresses.count(",")
    if ports.count(",") not in (0, count):
        raise ImproperlyConfigured("DATABASE_URL must have one port, or as many ports as hosts.")


def _check_combinations(parameters: dict[str, str]) -> None:
    if {"currentSchema", "options"} <= parameters.keys():
        raise ImproperlyConfigured("DATABASE_URL must set currentSchema or options, not both.")
    if parameters.get("pgbouncer") == "true" and parameters.keys() & {"currentSchema", "options"}:
        raise ImproperlyConfigured("DATABASE_URL can't set currentSchema or options with pgbouncer=true.")
    if parameters.get("sslrootcert") == "system" and parameters.get("sslmode", "verify-full") != "verify-full":
        raise ImproperlyConfigured("DATABASE_URL can set sslrootcert=system with sslmode=verify-full only.")
    is_required = parameters.get("sslmode") in ("require", "verify-ca", "verify-full")
    if parameters.get("sslnegotiation") == "direct" and not is_required:
        raise ImproperlyConfigured("DATABASE_URL can set sslnegotiation=direct with sslmode=require or stricter only.")


def server_threads() -> int:
    """Return how many threads of this process run requests. Without a server, assume more than connections."""
    return server_option("blocking-threads", MAX_CONNECTIONS + 1)


def _sqlite_settings(name: str, *, debug: bool) -> dict[str, Any]:
    if not debug and server_option("workers", 1) > 1:
        raise ImproperlyConfigured("DATABASE_URL must be a postgres:// URL for several workers; SQLite supports one.")
    make_directory(Path(name).parent)
    return {
        "ENGINE": "core.db.sqlite",
        "NAME": name,
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


def _postgresql_settings(parameters: dict[str, str], hosts: str) -> dict[str, Any]:
    options = {name: value for name, value in parameters.items() if name not in ("pgbouncer", "currentSchema")}
    if schema := parameters.get("currentSchema"):
        options["options"] = f"-c search_path={schema}"
    pooled = parameters.get("pgbouncer") == "true"
    several = any("," in names for names in (hosts, parameters.get("host", ""), parameters.get("hostaddr", "")))
    return {
        "ENGINE": "core.db.postgresql",
        "DISABLE_SERVER_SIDE_CURSORS": pooled,
        # A thread keeps its connection between requests, unless there are more threads than connections.
        "CONN_MAX_AGE": 600 if server_threads() <= MAX_CONNECTIONS else 0,
        "OPTIONS": {
            **options,
            "pgbouncer": pooled,
            # After a failure the pool retries for `reconnect_timeout` seconds, and again at the next request.
            "pool": {"min_size": 1, "max_size": MAX_CONNECTIONS, "timeout": 3, "reconnect_timeout": 2},
            # For each host. With several, a connection to the second takes less than the pool's timeout.
            "connect_timeout": 2 if several else 3,
            "target_session_attrs": "read-write",  # after a failover, not the standby that was the primary
            # Drop the connection to an unresponsive host after about 10 s.
            "keepalives_idle": 4,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": 10_000,
            "prepare_threshold": 0,  # for core.db.statements; the ORM binds its parameters on the client
        },
    }
