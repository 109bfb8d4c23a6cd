"""Functions that read settings from environment variables.

Each raises `ImproperlyConfigured` with one sentence that names the variable and never shows a password.
"""

import ipaddress
import os
import re
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from environs import Env, EnvError, EnvValidationError, validate
from redis.backoff import NoBackoff
from redis.retry import Retry

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

env = Env()


@contextmanager
def improperly_configured(name: str) -> Iterator[None]:
    """Convert errors about the variable `name` into `ImproperlyConfigured`."""
    try:
        yield
    except EnvValidationError as error:
        reason = " ".join(map(str, error.error_messages))
        raise ImproperlyConfigured(f'Environment variable "{name}" invalid: {reason}') from None
    except EnvError as error:
        raise ImproperlyConfigured(str(error)) from None
    except ValueError as error:
        raise ImproperlyConfigured(f'Environment variable "{name}" invalid: {error}') from None


def env_bool(name: str, default: bool) -> bool:
    with improperly_configured(name):
        return env.bool(name, default)


def env_debug() -> bool:
    """Return DEBUG. It is on by default only while nothing of production is configured."""
    configured = [name for name in ("ALLOWED_HOSTS", "TRUSTED_PROXIES") if os.environ.get(name, "").strip()]
    if not os.environ.get("DATABASE_URL", "sqlite:").startswith("sqlite:"):
        configured.append("DATABASE_URL")
    if configured and "DEBUG" not in os.environ:
        raise ImproperlyConfigured(f"DEBUG must be set when {configured[0]} is: off in production, on for development.")
    return env_bool("DEBUG", True)


def env_int(name: str, default: int, *, minimum: int | None = None, maximum: int | None = None) -> int:
    with improperly_configured(name):
        return env.int(name, default, validate=validate.Range(minimum, maximum))


def env_str(name: str, default: str, *, max_length: int | None = None) -> str:
    """Return the variable's text. With `max_length`, it must not be empty."""
    with improperly_configured(name):
        limits = None if max_length is None else validate.Length(1, max_length)
        return env.str(name, default, validate=limits)


def env_list(name: str, default: list[str]) -> list[str]:
    """Return comma-separated values, without empty ones."""
    with improperly_configured(name):
        return [item.strip() for item in env.list(name, default) if item.strip()]


def env_networks(name: str) -> list[IPNetwork]:
    """Return comma-separated IP addresses and networks: `10.0.0.7, 2001:db8::/32`."""
    values = env_list(name, [])
    with improperly_configured(name):
        return [ipaddress.ip_network(value) for value in values]


def env_listener(name: str) -> tuple[str, int] | None:
    """Return the IP address and port to listen on, such as `127.0.0.1:9401`. Port 0 is any free port."""
    value = env_str(name, "")
    if not value:
        return None
    with improperly_configured(name):
        host, _, port = value.rpartition(":")
        if not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
            raise ValueError("use an IP address and a port, such as 127.0.0.1:9401.")
        return str(ipaddress.ip_address(host.strip("[]"))), int(port)


def env_cache(name: str) -> dict[str, Any]:
    """Return the entry of `CACHES` for a URL. A Redis that does not respond raises after half a second."""
    with improperly_configured(name):
        cache = dict(env.dj_cache_url(name))
    if cache["BACKEND"] == "django.core.cache.backends.redis.RedisCache":
        timeouts = {"socket_timeout": 0.5, "socket_connect_timeout": 0.5, "retry": Retry(NoBackoff(), 0)}
        cache.setdefault("OPTIONS", {}).update(timeouts)
    return cache


def granian_option(option: str, default: int) -> int:
    """Return granian's option `workers` or `blocking-threads`, from its command line or its environment variable.

    granian's workers inherit both.
    """
    values = re.findall(rf"--{option}[ =](\d+)", " ".join(sys.argv)) if "granian" in sys.argv[0] else []
    return int(values[-1]) if values else env_int(f"GRANIAN_{option.upper().replace('-', '_')}", default)


def make_directory(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImproperlyConfigured(f"The directory {path} can't be created: {error.strerror}.") from None


def development_secret_key(path: Path) -> str:
    """Return the key in `path`. The first process creates it; a hard link makes that atomic."""
    make_directory(path.parent)
    new = path.with_name(f"{path.name}.{os.getpid()}")
    new.touch(mode=0o600)
    new.write_text(secrets.token_urlsafe(50))
    try:
        path.hardlink_to(new)
    except FileExistsError:
        pass
    finally:
        new.unlink()
    return path.read_text()


def is_weak_key(key: str) -> bool:
    """Return whether a signing key could be guessed, by the rules of Django's `security.W009` check."""
    return len(key) < 50 or len(set(key)) < 5 or key.startswith("django-insecure-")
