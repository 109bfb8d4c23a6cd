"""An invalid setting stops the start with a message of one sentence. Optional settings have working defaults."""

from __future__ import annotations

import runpy
import secrets
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from tests.processes import ROOT, environment

PRODUCTION = {
    "DEBUG": "off",
    "SECRET_KEY": secrets.token_urlsafe(50),
    "ALLOWED_HOSTS": "onehorizon.example",
}

INVALID = [
    ("DEBUG", "maybe"),
    ("DEBUG", ""),
    ("ALLOWED_HOSTS", ""),
    ("ALLOWED_HOSTS", " , "),
    ("CSRF_TRUSTED_ORIGINS", "onehorizon.example"),
    ("CSRF_TRUSTED_ORIGINS", "https://a.example, b.example"),
    ("TRUSTED_PROXIES", "nonsense"),
    ("TRUSTED_PROXIES", "10.0.0.1/8"),
    ("TRUSTED_PROXIES", "10.0.0.0/8, 10.0.0.256"),
    ("METRICS_ADDRESS", "9401"),
    ("METRICS_ADDRESS", "127.0.0.1"),
    ("METRICS_ADDRESS", "127.0.0.1:65536"),
    ("METRICS_ADDRESS", "localhost:9401"),
    ("DATABASE_URL", ""),
    ("DATABASE_URL", "nonsense"),
    ("DATABASE_URL", "mysql://root@127.0.0.1/onehorizon"),
    ("DATABASE_URL", "postgres://postgres@127.0.0.1:port/onehorizon"),
    ("DATABASE_URL", "postgres://postgres@127.0.0.1"),
    ("DATABASE_URL", "sqlite://:memory:"),
    ("DATABASE_URL", "postgres://me@db/x?pool=false"),
    ("DATABASE_URL", "postgres://me@db/x?prepare_threshold=5"),
    ("DATABASE_URL", "postgres://me@db/x?connect_timeout=60&sslmode=require"),
    ("DATABASE_URL", "postgres://me@db/x?target_session_attrs=any"),
    ("DATABASE_URL", "postgres://me@db/x?keepalives_idle="),
    ("DATABASE_URL", "postgres://me@db/x?server_side_binding=true"),
    ("DATABASE_URL", "postgres://me@db/x?sslmode=disable&sslmode=require"),
    ("DATABASE_URL", "postgres://me@db/x?currentSchema=a&options=-c%20work_mem%3D64MB"),
    ("DATABASE_URL", "postgres://me@db/x?pgbouncer=yes"),
    ("DATABASE_URL", "postgres://me@db/x?pgbouncer="),
    ("DATABASE_URL", "postgres://me@db/x?pgbouncer=true&currentSchema=a"),
    ("DATABASE_URL", "postgres://me@db/x?pgbouncer=true&options=-c%20work_mem%3D64MB"),
    ("CACHE_URL", "nonsense"),
    ("APIKEYS_MAX_ACTIVE", "0"),
    ("APIKEYS_MAX_ACTIVE", "-1"),
    ("APIKEYS_MAX_ACTIVE", "many"),
    ("APIKEYS_MAX_ACTIVE", ""),
    ("APIKEYS_MAX_ACTIVE", "10001"),
    ("APIKEYS_MAX_ACTIVE", "20.5"),
    ("APIKEYS_ARGON2_TIME_COST", "0"),
    ("APIKEYS_ARGON2_MEMORY_COST", "7"),
    ("APIKEYS_ARGON2_MEMORY_COST", "19 MiB"),
    ("APIKEYS_ARGON2_PARALLELISM", "0"),
    ("APIKEYS_ARGON2_PARALLELISM", "9"),  # too many for 64 KiB, the memory cost in the tests
    ("APIKEYS_PROOFS_MAX", "0"),
    ("APIKEYS_PROOF_SECONDS", "forever"),
    ("APIKEYS_FAILURES_PER_MINUTE", "0"),
]


# Each of them alone says that this may be production.
OF_PRODUCTION = [
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


@pytest.mark.parametrize(("name", "value"), INVALID)
def test_an_invalid_value_is_rejected_with_one_sentence_that_names_the_setting(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    with pytest.raises(ImproperlyConfigured, match=rf"\A[^\n]*{name}[^\n]*\Z"):
        read_settings(monkeypatch, **{name: value})


def test_a_directory_that_can_not_be_created_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()

    with pytest.raises(ImproperlyConfigured, match=f"The directory {file}/deeper can't be created"):
        read_settings(monkeypatch, DATABASE_URL=f"sqlite:///{file}/deeper/onehorizon.sqlite3")


def test_a_database_url_may_have_connection_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgres://me@db/x?sslmode=verify-full&sslrootcert=/ca.pem&application_name=web&options=-c%20work_mem%3D64MB"
    options = read_settings(monkeypatch, DATABASE_URL=url)["DATABASES"]["default"]["OPTIONS"]

    assert (options["sslmode"], options["sslrootcert"], options["application_name"]) == (
        "verify-full",
        "/ca.pem",
        "web",
    )
    assert options["options"] == "-c work_mem=64MB"


@pytest.mark.parametrize("url", ["postgres://me:hunter22@db:port/x", "mysql://me:hunter22@db/x", "hunter22"])
def test_a_password_in_an_invalid_database_url_is_not_shown(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    with pytest.raises(ImproperlyConfigured) as excinfo:
        read_settings(monkeypatch, DATABASE_URL=url)

    assert "hunter22" not in str(excinfo.value)


@pytest.mark.parametrize(("name", "value"), OF_PRODUCTION)
def test_debug_has_no_default_once_something_of_production_is_configured(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    unset = {other: None for other, _ in [("DEBUG", ""), *OF_PRODUCTION]}

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
    unset = {name: None for name, _ in INVALID} | {"SECRET_KEY_FALLBACKS": None}

    settings = read_settings(monkeypatch, **unset)

    assert (settings["DEBUG"], settings["APIKEYS_MAX_ACTIVE"], settings["SECRET_KEY_FALLBACKS"]) == (True, 20, [])
    assert settings["DATABASES"]["default"]["NAME"] == str(ROOT / "var" / "onehorizon.sqlite3")
    assert "localhost" in settings["ALLOWED_HOSTS"]
    assert settings["TRUSTED_PROXIES"] == []
