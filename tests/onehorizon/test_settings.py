"""An invalid setting stops the start with one sentence; optional settings have working defaults."""

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

BAD = [
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
    ("APIKEYS_ARGON2_PARALLELISM", "9"),  # of 64 KiB, the tests' memory cost
    ("APIKEYS_PROOFS_MAX", "0"),
    ("APIKEYS_PROOF_SECONDS", "forever"),
    ("APIKEYS_FAILURES_PER_MINUTE", "0"),
]


def read_settings(monkeypatch: pytest.MonkeyPatch, **variables: str | None) -> dict[str, Any]:
    """What the settings file says under `variables`; None leaves one out."""
    for name, value in {**environment(), **variables}.items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    return runpy.run_path(str(ROOT / "onehorizon" / "settings.py"))


@pytest.mark.parametrize(("name", "value"), BAD)
def test_an_invalid_value_is_rejected_in_one_sentence_that_names_it(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    with pytest.raises(ImproperlyConfigured, match=rf"\A[^\n]*{name}[^\n]*\Z"):
        read_settings(monkeypatch, **{name: value})


def test_a_directory_that_can_not_be_created_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.touch()

    with pytest.raises(ImproperlyConfigured, match=f"The directory {in_the_way}/deeper can't be created"):
        read_settings(monkeypatch, DATABASE_URL=f"sqlite:///{in_the_way}/deeper/onehorizon.sqlite3")


def test_a_database_url_may_have_connection_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgres://me@db/x?sslmode=verify-full&sslrootcert=/ca.pem&application_name=web&options=-c%20work_mem%3D64MB"
    read = read_settings(monkeypatch, DATABASE_URL=url)["DATABASES"]["default"]["OPTIONS"]

    assert (read["sslmode"], read["sslrootcert"], read["application_name"]) == ("verify-full", "/ca.pem", "web")
    assert read["options"] == "-c work_mem=64MB"


@pytest.mark.parametrize("url", ["postgres://me:hunter22@db:port/x", "mysql://me:hunter22@db/x", "hunter22"])
def test_a_password_in_an_invalid_database_url_is_not_shown(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    with pytest.raises(ImproperlyConfigured) as refused:
        read_settings(monkeypatch, DATABASE_URL=url)

    assert "hunter22" not in str(refused.value)


@pytest.mark.parametrize("name", ["SECRET_KEY", "ALLOWED_HOSTS"])
@pytest.mark.parametrize("given", ["", None])
def test_with_debug_off_nothing_is_generated(monkeypatch: pytest.MonkeyPatch, name: str, given: str | None) -> None:
    with pytest.raises(ImproperlyConfigured, match=rf"\A{name} must [^\n]*\Z"):
        read_settings(monkeypatch, **PRODUCTION | {name: given})


def test_lists_and_networks_may_contain_spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    read = read_settings(
        monkeypatch,
        ALLOWED_HOSTS="a.example, b.example,",
        CSRF_TRUSTED_ORIGINS=" https://a.example ",
        TRUSTED_PROXIES="10.0.0.7, 2001:db8::/32",
    )

    assert read["ALLOWED_HOSTS"] == ["a.example", "b.example"]
    assert read["CSRF_TRUSTED_ORIGINS"] == ["https://a.example"]
    assert list(map(str, read["TRUSTED_PROXIES"])) == ["10.0.0.7/32", "2001:db8::/32"]


def test_optional_settings_have_their_documented_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    left_out = {name: None for name, _ in BAD} | {"SECRET_KEY_FALLBACKS": None}

    read = read_settings(monkeypatch, **left_out)

    assert (read["DEBUG"], read["APIKEYS_MAX_ACTIVE"], read["SECRET_KEY_FALLBACKS"]) == (True, 20, [])
    assert read["DATABASES"]["default"]["NAME"] == str(ROOT / "var" / "onehorizon.sqlite3")
    assert "localhost" in read["ALLOWED_HOSTS"]
    assert read["TRUSTED_PROXIES"] == []
