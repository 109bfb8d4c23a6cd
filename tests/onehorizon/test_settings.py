"""An invalid setting stops the start with a message of one sentence. Optional settings have working defaults."""

from __future__ import annotations

import re
import runpy
import secrets
import stat
from pathlib import Path
from typing import Any

import pytest
from django.core.cache.backends.redis import RedisCache
from django.core.exceptions import ImproperlyConfigured
from django.urls import get_resolver

from onehorizon.checks import routes
from onehorizon.databases import database_settings
from onehorizon.environment import development_secret_key
from tests.processes import ROOT, environment

PRODUCTION = {
    "DEBUG": "off",
    "SECRET_KEY": secrets.token_urlsafe(50),
    "ALLOWED_HOSTS": "onehorizon.example",
}

CONTACTS = ("SECURITY_CONTACT", "SUPPORT_CONTACT")
VALID_CONTACTS = ["", "security@x.example", "a+b@x.example", "https://x.example", "https://x.example/report?a=b#c"]
INVALID_CONTACTS = [
    *(" ", "support", "support@", "@x.example", "a b@x.example", "a@b@x.example", "support@x", "\udcff"),
    *("Support <support@x.example>", "a@x.example, b@x.example", "mailto:support@x.example", "\udcff@x.example"),
    *("support@x.example\n", "a@x.example\nX: y", "https://x.example\n", "https://x.example/\nX: y"),
    *("http://x.example", "http://x.example/", "HTTPS://x.example", "https://", "https://x y", "https://x example/"),
    *("https:x.example", "//x.example", "//x.example/", "x.example", "x.example/help", "https://x.example/b\u00fccher"),
    *("ftp://x.example/", "javascript:alert(1)"),
]

INVALID = {
    "DEBUG": ["maybe", "", " ", "on "],
    "SECRET_KEY": ["\udcff" * 60],
    "SECRET_KEY_FALLBACKS": ["\udcff" * 60],
    "ALLOWED_HOSTS": [
        *(
            "",
            " , ",
            "x:8147",
            "https://x",
            "https://x/",
            "//x",
            "x/",
            "x/path",
            '["x"]',
            '["x", "y"]',
            "'x'",
            "x;y",
            "x y",
        ),
        *("*.x", "a*", "x.", ".", "..x", "a..b", "a.example, *.b.example", "user@x", "x_y", "bücher.example", "\udcff"),
        *("::1", "[::1]:8147", "[::1", "[0:0:0:0:0:0:0:1]", "[fe80::1%eth0]", "[x]", "x\ny"),
    ],
    "CSRF_TRUSTED_ORIGINS": [
        *(
            "onehorizon.example",
            "https://a.example, b.example",
            "https://x/",
            "https://x/path",
            "https://",
            "//x",
            "x:443",
        ),
        *("ftp://x", "https://x:", "https://x:https", "https://x:0", "https://x:65536", "https://x:443", "http://x:80"),
        *("https://x:08443", "https://X", "HTTPS://x", "https://*", "https://a.*.x", "https://*x", '["https://x"]'),
        *(
            "https://x https://y",
            "https://bücher.example",
            "https://::1",
            "https://user:hunter22@x",
            "null",
            "*",
            "https:x",
        ),
    ],
    "BASE_URL": [
        *(
            " ",
            "localhost",
            "localhost:8000",
            "//localhost",
            "https://",
            "https:localhost",
            "ftp://localhost",
            "\udcff",
        ),
        *(
            "https://localhost/",
            "https://localhost/path",
            "https://localhost?x",
            "https://localhost#x",
            "HTTPS://localhost",
        ),
        *(
            "https://LOCALHOST",
            "https://localhost:443",
            "http://localhost:80",
            "https://localhost:0",
            "https://*.localhost",
        ),
        *(
            "https://localhost:65536",
            "https://localhost, https://127.0.0.1",
            "https://user:hunter22@localhost",
            "https://*",
        ),
        *("https://elsewhere.example", "https://localhost.example", "https://::1", "http://[0:0:0:0:0:0:0:1]:8000"),
    ],
    "TRUSTED_PROXIES": [
        *(
            "nonsense",
            "10.0.0.1/8",
            "10.0.0.0/8, 10.0.0.256",
            "proxy.example",
            '["10.0.0.7"]',
            "10.0.0.7:443",
            "*",
            "[::1]",
        ),
        *("010.0.0.7", "10.0.0.0/33", "10.0.0.1-10.0.0.9", "10.0.0.7 10.0.0.8", "unix:", "::ffff:10.0.0.7"),
        *("0.0.0.0/0", "::/0", "10.0.0.7, 0.0.0.0/0", "::ffff:10.0.0.0/104"),
    ],
    "METRICS_ADDRESS": [
        *("9401", "127.0.0.1", "127.0.0.1:65536", "localhost:9401", " ", ":9401", "127.0.0.1:", "127.0.0.1:-1"),
        *("127.0.0.1:9401/metrics", "http://127.0.0.1:9401", "::1:9401", "[::1:9401", "[::1]9401", "127.0.0.1:٩٤٠١"),
    ],
    "ENVIRONMENT": ["", " ", "x" * 31, "a\nb", "\x1b[31m", "\udcff"],
    "ADMIN_URL": [
        *(
            "",
            " ",
            "/",
            "/admin/",
            "admin",
            "admin//",
            "a b/",
            "<x>/",
            "é/",
            "admin/\n",
            "admin/?x",
            "../",
            "https://x/",
        ),
        *(
            "api/",
            "api/admin/",
            "app/",
            "docs/",
            "w/admin/",
            "settings/",
            "static/",
            "workspaces/",
            "sign-in/",
            "sign-out/",
        ),
    ],
    "DATABASE_URL": [
        *(
            "",
            " ",
            "nonsense",
            "mysql://",
            "mysql://root@127.0.0.1/onehorizon",
            "postgis://me@db/x",
            "oracle://me@db/x",
        ),
        *(
            "postgres://",
            "postgres://me@db",
            "postgres://me@db/",
            "postgres:me@db/x",
            "postgres:/x",
            "POSTGRES//me@db/x",
        ),
        *("postgres://me@db:port/x", "postgres://me@db:0/x", "postgres://me@db:65536/x", "postgres://me@[::1/x"),
        *("postgres://me@d b/x", "postgres://me@bücher.example/x", "postgres://me@db/x ", " postgres://me@db/x"),
        *(
            "postgres://me@db/x/y",
            "postgres://me@db/x%00",
            "postgres://me@db/x\n",
            "postgres://me@db/\udcff",
            "postgres://me@db/x#y",
        ),
        *("postgres://me:a/b@db/x", "postgres://me:1/b@db/x", "postgres://me:1?b@db/x", "postgres://me:1#b@db/x"),
        *(
            "sqlite://",
            "sqlite:///",
            "sqlite://:memory:",
            "sqlite:///:memory:",
            "sqlite:///file::memory:",
            "sqlite:x.sqlite3",
        ),
        *(
            "sqlite:/tmp/x.sqlite3",
            "sqlite://a,b/x.sqlite3",
            "sqlite://tmp/x.sqlite3",
            "sqlite:////tmp",
            "sqlite:////tmp/new/",
            "sqlite:///x.sqlite3 ",
        ),
        *("sqlite:////tmp/x.sqlite3?timeout=5", "sqlite:////tmp/x.sqlite3?mode=ro", "sqlite:////tmp/x#y.sqlite3"),
        *(
            f"postgres://me@db/x?{query}"
            for query in [
                # parameters that would override our settings, unknown, repeated, or without a value
                *(
                    "pool=false",
                    "prepare_threshold=5",
                    "connect_timeout=60&sslmode=require",
                    "target_session_attrs=any",
                ),
                *(
                    "keepalives_idle=",
                    "server_side_binding=true",
                    "user=me",
                    "password=hunter22",
                    "dbname=y",
                    "service=y",
                ),
                *("sslmod=require", "SSLMODE=require", "schema=a", "pgbouncer=true&x", "=x", "client_encoding=latin1"),
                *("sslmode=disable&sslmode=require", "sslmode", "sslmode=", "application_name=", "pgbouncer="),
                # values of the wrong type
                *(
                    "pgbouncer=yes",
                    "pgbouncer=True",
                    "pgbouncer=1",
                    "sslmode=true",
                    "sslmode=Require",
                    "sslmode=require%20",
                ),
                *(
                    "port=x",
                    "port=0",
                    "port=65536",
                    "port=5432,",
                    "hostaddr=db.example",
                    "hostaddr=10.0.0.256",
                    "sslsni=true",
                ),
                *(
                    "sslnegotiation=tls",
                    "sslcertmode=1",
                    "ssl_min_protocol_version=1.2",
                    "ssl_max_protocol_version=TLSv2",
                ),
                *("channel_binding=on", "gssencmode=off", "gssdelegation=true", "load_balance_hosts=true"),
                *("require_auth=scram", "require_auth=none,md6", "sslrootcert=/no/such/ca.pem", "sslcert=/no/such.pem"),
                *("sslkey=/no/such.pem", "sslcrl=/no/such.pem", "sslcrldir=/no/such", "passfile=/no/such"),
                # contradictions
                *("currentSchema=a&options=-c%20work_mem%3D64MB", "pgbouncer=true&currentSchema=a", "host=other"),
                *("pgbouncer=true&options=-c%20work_mem%3D64MB", "sslmode=require&sslrootcert=system"),
                *("sslnegotiation=direct", "sslnegotiation=direct&sslmode=prefer"),
            ]
        ),
        "postgres://me@db:5432/x?port=5433",
        # several servers
        *("postgres://me@a:1,b:port/x", "postgres://me@a:1,b:0/x", "postgres://me@a:1,b:65536/x", "postgres://a,,b/x"),
        *("postgres://me@a,b:1:2/x", "postgres://me@a,[::1/x", "postgres://me@a,b\u00fc/x", "postgres://me@a,b c/x"),
        *("postgres://me@a:1,b:2/x?port=3", "postgres://me@a:1,b:2/x?host=c", "postgres://me@a:1,b:2/"),
        *("postgres://me@a,b/x?port=1,2,3", "postgres:///x?host=a,b&port=1,2,3", "postgres://me@a/x?port=1,2"),
        *("postgres://me@a,b/x?hostaddr=10.0.0.7", "postgres:///x?hostaddr=10.0.0.7,10.0.0.8&port=1,2,3"),
    ],
    "CACHE_URL": [
        *(" ", "nonsense", "redis", "redis://", "redis:///0", "redis:///run/redis.sock", "redis:host", "REDIS//host"),
        *("redis://host:port/0", "redis://host:65536/0", "redis://host:0/0", "redis://host/x", "redis://host/0/1"),
        *(
            "redis://host/-1",
            "redis://host/0?timeout=x",
            "redis://host/0?key_prefix=a",
            "redis://host/0#x",
            "redis://h ost/0",
        ),
        *("redis://a,b/0", "redis://:a/b@host/0", "redis://:1?b@host/0", "redis://:1#b@host/0", "redis://host/0 "),
        *(
            "memcached://host:11211",
            "pymemcache://host",
            "file:///tmp/cache",
            "db://table",
            "hiredis://host/0",
            "rediscache://h",
        ),
        *(
            "locmem://x",
            "dummy://x",
            "http://host/0",
            "redis://[::1/0",
            "redis://bücher.example/0",
            "redis://host/\udcff",
        ),
    ],
    **dict.fromkeys(CONTACTS, INVALID_CONTACTS),
    "APIKEYS_MAX_ACTIVE": ["0", "-1", "many", "", " ", "10001", "20.5", "2e1", "1,000", "0x14"],
    "APIKEYS_ARGON2_TIME_COST": ["0", "101", ""],
    "APIKEYS_ARGON2_MEMORY_COST": ["7", "19 MiB", "4194305"],
    "APIKEYS_ARGON2_PARALLELISM": ["0", "65", "9"],  # 9 is too many for 64 KiB, the memory cost in the tests
    "APIKEYS_PROOFS_MAX": ["0", "1000001"],
    "APIKEYS_PROOF_SECONDS": ["forever", "86401"],
    "APIKEYS_FAILURES_PER_MINUTE": ["0", "100001"],
    "AUDIT_RETENTION_DAYS": ["-1", "forever", "", "36501"],
    "AUDIT_ARCHIVE_DIR": ["archive", "./archive", " /srv/archive"],
    "BACKUP_DIR": ["backups", "./backups", " /srv/backups"],
}


# Each of them alone says that this may be production.
PRODUCTION_SETTINGS = [
    ("ALLOWED_HOSTS", "onehorizon.example"),
    ("TRUSTED_PROXIES", "10.0.0.7"),
    ("DATABASE_URL", "postgres://me@db/x"),
]


def read_settings(monkeypatch: pytest.MonkeyPatch, **variables: str | None) -> dict[str, Any]:
    """Return the settings for these environment variables. None unsets a variable."""
    for name, value in {**environment(), **variables}.items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    return runpy.run_path(str(ROOT / "onehorizon" / "settings.py"))


def sentence_about(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> str:
    """Return the error that this value causes, or an empty string."""
    try:
        read_settings(monkeypatch, **{name: value})
    except ImproperlyConfigured as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_value_is_rejected_with_one_sentence_that_names_the_setting(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    sentences = {value: sentence_about(monkeypatch, name, value) for value in INVALID[name]}

    assert [item for item in sentences.items() if not re.fullmatch(rf"[ -~]*\b{name}\b[ -~]*\.", item[1])] == []


def test_a_generated_secret_key_is_private_again_if_it_was_not(tmp_path: Path) -> None:
    file = tmp_path / "secret_key"
    key = development_secret_key(file)
    file.chmod(0o644)

    assert (development_secret_key(file), stat.S_IMODE(file.stat().st_mode)) == (key, 0o600)


def test_a_secret_key_that_can_not_be_read_or_is_empty_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()

    with pytest.raises(ImproperlyConfigured, match=rf"\ASECRET_KEY can't be kept in {tmp_path}: Is a directory\.\Z"):
        development_secret_key(tmp_path)
    with pytest.raises(ImproperlyConfigured, match=rf"\ASECRET_KEY must not be empty: delete {tmp_path}/empty, "):
        development_secret_key(tmp_path / "empty")


def test_a_directory_that_can_not_be_created_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()

    with pytest.raises(ImproperlyConfigured, match=f"The directory {file}/deeper can't be created"):
        read_settings(monkeypatch, DATABASE_URL=f"sqlite:///{file}/deeper/onehorizon.sqlite3")


def test_a_database_url_may_have_connection_parameters(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.touch()
    url = f"postgres://me@db/x?sslmode=verify-full&sslrootcert={file}&application_name=web&options=-c%20work_mem%3D64MB"
    options = read_settings(monkeypatch, DATABASE_URL=url)["DATABASES"]["default"]["OPTIONS"]

    assert (options["sslmode"], options["sslrootcert"], options["application_name"]) == (
        "verify-full",
        str(file),
        "web",
    )
    assert options["options"] == "-c work_mem=64MB"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "hunter22"),
        ("DATABASE_URL", "mysql://me:hunter22@db/x"),
        ("DATABASE_URL", "sqlite://me:hunter22@db/x"),
        ("DATABASE_URL", "postgres://me:hunter22@db:port/x"),
        ("DATABASE_URL", "postgres://me:hunter22@d b/x"),
        ("DATABASE_URL", "postgres://me:hunter22@db/x?sslmode=hunter22"),
        ("DATABASE_URL", "postgres://me:hunter22@db/x?password=hunter22"),
        # passwords that are not percent-encoded
        ("DATABASE_URL", "postgres://me:12?hunter22@db/x"),
        ("DATABASE_URL", "postgres://me:12?hunter22=&x@db/x"),
        ("DATABASE_URL", "postgres://me:12#hunter22@db/x"),
        ("DATABASE_URL", "postgres://me:12/hunter22@db/x"),
        ("DATABASE_URL", "postgres://me:hunter22/@db/x"),
        ("DATABASE_URL", "postgres://me:[hunter22@db/x"),
        ("DATABASE_URL", "postgres://me:hunter22\u2100@db/x"),
        ("DATABASE_URL", "postgres://me:hunter22@a:1,b:port/x"),
        ("DATABASE_URL", "postgres://me:hunter22,b/c@db/x"),
        ("CACHE_URL", "hunter22"),
        ("CACHE_URL", "redis://:hunter22@host:port/0"),
        ("CACHE_URL", "redis://:hunter22/@host/0"),
        ("CACHE_URL", "redis://:1?hunter22@host/0"),
        ("CACHE_URL", "redis://:[hunter22@host/0"),
        ("CACHE_URL", "hunter22://host/0"),
        ("CSRF_TRUSTED_ORIGINS", "https://me:hunter22@x"),
        ("BASE_URL", "https://me:hunter22@localhost"),
        *((name, "http://me:hunter22@x.example") for name in CONTACTS),
        ("ALLOWED_HOSTS", "me:hunter22@x"),
        ("SECRET_KEY", "hunter22\udcff"),
    ],
)
def test_a_password_in_an_invalid_value_is_not_shown(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    with pytest.raises(ImproperlyConfigured) as error:
        read_settings(monkeypatch, **{name: value})

    assert "hunter22" not in str(error.value)


VALID = {
    "ALLOWED_HOSTS": [
        "x",
        "a.example",
        ".example.com",
        "A.Example",
        "10.0.0.7",
        "[::1]",
        "xn--bcher-kva.example",
        "*",
        "a,b,",
    ],
    "CSRF_TRUSTED_ORIGINS": [
        *("", "https://x", "http://x", "https://*.x.example", "https://x:8443", "http://x:443", "https://[::1]:8443"),
        "https://xn--bcher-kva.example, https://a-b.example,",
    ],
    "BASE_URL": ["", "http://127.0.0.1:9000", "https://localhost", "https://[::1]:8443"],
    **dict.fromkeys(CONTACTS, VALID_CONTACTS),
    "TRUSTED_PROXIES": ["", " ", ",", "10.0.0.7", "10.0.0.0/8,", "::1, 2001:db8::/32", "0.0.0.0/1", "fe80::1%eth0"],
    "METRICS_ADDRESS": ["", "127.0.0.1:9401", "0.0.0.0:0", "[::1]:9401", "[::]:65535"],
    "ENVIRONMENT": ["staging", "Zürich 2"],
    "ADMIN_URL": ["operators/", "desk/night-shift/", "API/", "workspace/"],
    "DATABASE_URL": [
        *("postgres://me@db/x", "postgresql://me:a%2Fb%40c%23d%3F@db:5433/x", "pgsql:///x", "postgres://a,b/x"),
        *("postgres://me@[::1]:5432/x", "postgres://me@%2Frun%2Fpostgresql/x", "postgres:///x?host=/run&port=5433"),
        *("postgres:///x?host=a,b&port=5432,5433&hostaddr=10.0.0.7,::1", "postgres://me@db/x?sslmode=verify-full"),
        *("postgres://me:b@a:5432,b:5433/x", "postgres://a,[::1]:5433/x?pgbouncer=true", "postgres://a,b/x?port=5433"),
        "postgres://me@db/x?require_auth=!password,scram-sha-256&ssl_min_protocol_version=TLSv1.3",
        *("postgres://me@db/x?sslrootcert=system", "postgres://me@db/x?sslmode=require&sslnegotiation=direct"),
        "postgres://me@db/x?sslmode=verify-full&sslrootcert=system&channel_binding=require&application_name=a%20b",
    ],
    "CACHE_URL": [
        "",
        "redis://host",
        "redis://host/",
        "rediss://me:a%2Fb@host:6380/15",
        "redis://[::1]:6379/0",
        "locmem://",
        "dummy://",
    ],
}


@pytest.mark.parametrize("name", VALID)
def test_a_valid_value_is_accepted(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert {value: sentence_about(monkeypatch, name, value) for value in VALID[name]} == dict.fromkeys(VALID[name], "")


@pytest.mark.parametrize(
    ("servers", "password", "hosts", "ports"),
    [
        ("me:a%2Cb@db", "a,b", "db", ""),
        ("me:a,b@db", "a,b", "db", ""),
        ("me:a@b,c@db", "a@b,c", "db", ""),
        ("me@db1,db2", "", "db1,db2", ""),
        ("me@db1:5433,db2:5434", "", "db1,db2", "5433,5434"),
        ("me@db1,db2:5433", "", "db1,db2", "5432,5433"),
        ("me@[::1]:5433,%2Frun%2Fpostgresql,10.0.0.7", "", "::1,/run/postgresql,10.0.0.7", "5433,5432,5432"),
        ("me:a,b@db1.example,db2.example:6432", "a,b", "db1.example,db2.example", "5432,6432"),
        ("me:a@b,c@db1,db2", "a@b,c", "db1,db2", ""),
        ("db1:1,db2:2", "", "db1,db2", "1,2"),
    ],
)
def test_a_database_url_may_name_several_servers(
    monkeypatch: pytest.MonkeyPatch, servers: str, password: str, hosts: str, ports: str
) -> None:
    database = read_settings(monkeypatch, DATABASE_URL=f"postgres://{servers}/x?pgbouncer=true")["DATABASES"]["default"]

    assert (database["HOST"], database["PORT"], database["NAME"]) == (hosts, ports, "x")
    assert database["PASSWORD"] == password


def test_options_of_a_database_url_are_passed_as_they_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgres://me@db/x?sslpassword=0123&application_name=true&options=-c%20work_mem%3D64MB"
    options = read_settings(monkeypatch, DATABASE_URL=url)["DATABASES"]["default"]["OPTIONS"]

    assert [options[name] for name in ("sslpassword", "application_name", "options")] == [
        "0123",
        "true",
        "-c work_mem=64MB",
    ]


def test_a_redis_url_keeps_its_user(monkeypatch: pytest.MonkeyPatch) -> None:
    default = read_settings(monkeypatch, CACHE_URL="rediss://me:a%2Cb@host:6380/1")["CACHES"]["default"]
    client = RedisCache(default["LOCATION"], {"OPTIONS": default["OPTIONS"]})._cache.get_client()

    arguments = client.connection_pool.connection_kwargs
    assert [arguments[name] for name in ("username", "password", "host", "port", "db")] == [
        "me",
        "a,b",
        "host",
        6380,
        1,
    ]


def test_the_path_of_the_admin_can_not_hide_another_page(monkeypatch: pytest.MonkeyPatch) -> None:
    first = {route.removeprefix("^").partition("/")[0] for route, _ in routes(get_resolver(), "")}
    taken = {name for name in first if re.fullmatch(r"[\w-]+", name)} - {"admin"}

    assert taken <= {url.partition("/")[0] for url in INVALID["ADMIN_URL"]}


def test_a_checkout_may_be_in_any_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    file = tmp_path / "50%25 of it? #1" / "onehorizon.sqlite3"

    assert database_settings(file, debug=True)["NAME"] == str(file)


@pytest.mark.parametrize("name", ["production", " Production "])
def test_debug_must_be_off_in_the_environment_production(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"\ADEBUG must be off when ENVIRONMENT is production\.\Z"):
        read_settings(monkeypatch, DEBUG="on", ENVIRONMENT=name)


@pytest.mark.parametrize(("name", "value"), PRODUCTION_SETTINGS)
def test_debug_has_no_default_once_something_of_production_is_configured(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    unset = {other: None for other, _ in [("DEBUG", ""), *PRODUCTION_SETTINGS]}

    with pytest.raises(ImproperlyConfigured, match=rf"\ADEBUG must be set when {name} is[^\n]*\Z"):
        read_settings(monkeypatch, **unset | {name: value})
    assert read_settings(monkeypatch, **unset | {name: value, "DEBUG": "on"})["DEBUG"] is True


def test_blank_variables_configure_nothing_of_production(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = read_settings(
        monkeypatch, DEBUG=None, TRUSTED_PROXIES=" ", ALLOWED_HOSTS=None, DATABASE_URL=f"sqlite:///{tmp_path}/a.sqlite3"
    )

    assert settings["DEBUG"] is True


@pytest.mark.parametrize("name", ["SECRET_KEY", "ALLOWED_HOSTS"])
@pytest.mark.parametrize("value", ["", None])
def test_with_debug_off_required_settings_have_no_default(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str | None
) -> None:
    with pytest.raises(ImproperlyConfigured, match=rf"\A{name} must [^\n]*\Z"):
        read_settings(monkeypatch, **PRODUCTION | {name: value})


@pytest.mark.parametrize(
    ("hosts", "base_url", "expected"),
    [
        ("onehorizon.example", None, "https://onehorizon.example"),
        ("OneHorizon.Example", None, "https://onehorizon.example"),
        ("onehorizon.example", "https://onehorizon.example:8443", "https://onehorizon.example:8443"),
        ("a.example, b.example", "https://b.example", "https://b.example"),
        (".example.com", "https://www.example.com", "https://www.example.com"),
    ],
)
def test_in_production_the_base_url_is_https_and_its_default_is_the_only_host(
    monkeypatch: pytest.MonkeyPatch, hosts: str, base_url: str | None, expected: str
) -> None:
    settings = read_settings(monkeypatch, **PRODUCTION | {"ALLOWED_HOSTS": hosts, "BASE_URL": base_url})

    assert settings["BASE_URL"] == settings["OAUTH2_PROVIDER"]["OIDC_ISS_ENDPOINT"] == expected


@pytest.mark.parametrize("hosts", ["a.example, b.example", ".example.com"])
@pytest.mark.parametrize("base_url", [None, "", "http://a.example", "http://www.example.com", "https://example.org"])
def test_with_several_hosts_the_base_url_is_required(
    monkeypatch: pytest.MonkeyPatch, hosts: str, base_url: str | None
) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"\ABASE_URL must [^\n]*\Z"):
        read_settings(monkeypatch, **PRODUCTION | {"ALLOWED_HOSTS": hosts, "BASE_URL": base_url})


def test_lists_and_networks_may_contain_spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read_settings(
        monkeypatch,
        ALLOWED_HOSTS="a.example, b.example,",
        CSRF_TRUSTED_ORIGINS=" https://a.example ",
        TRUSTED_PROXIES="10.0.0.7, 2001:db8::/32",
    )

    assert settings["ALLOWED_HOSTS"] == ["a.example", "b.example"]
    assert settings["CSRF_TRUSTED_ORIGINS"] == ["https://a.example"]
    assert list(map(str, settings["TRUSTED_PROXIES"])) == ["10.0.0.7/32", "2001:db8::/32"]


def test_optional_settings_have_their_documented_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read_settings(monkeypatch, **dict.fromkeys(INVALID))

    assert (settings["DEBUG"], settings["APIKEYS_MAX_ACTIVE"], settings["SECRET_KEY_FALLBACKS"]) == (True, 20, [])
    assert (settings["ENVIRONMENT"], settings["ADMIN_URL"]) == ("development", "admin/")
    assert settings["SUPPORT_CONTACT"] == ""
    assert settings["DATABASES"]["default"]["NAME"] == str(ROOT / "var" / "onehorizon.sqlite3")
    assert "localhost" in settings["ALLOWED_HOSTS"]
    assert settings["BASE_URL"] == "http://127.0.0.1:8000"
    assert settings["TRUSTED_PROXIES"] == []
