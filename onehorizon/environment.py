"""Functions that read settings from environment variables.

Each raises `ImproperlyConfigured` with one sentence that names the variable and never shows a password.
"""

import ipaddress
import os
import re
import secrets
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.validators import URLValidator, validate_email
from django.http.request import validate_host
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


def env_str(name: str, default: str) -> str:
    value = os.environ.get(name, default)
    if not value.isascii() and re.search(r"[\ud800-\udfff]", value):  # bytes that are not UTF-8
        raise ImproperlyConfigured(f"{name} must be UTF-8 text.")
    return value


def env_label(name: str, default: str, max_length: int) -> str:
    """Return printable text without surrounding spaces, of 1 to `max_length` characters."""
    value = env_str(name, default).strip()
    if not value.isprintable() or not 1 <= len(value) <= max_length:
        raise ImproperlyConfigured(f"{name} must be text of 1 to {max_length} printable characters.")
    return value


def env_list(name: str, default: list[str]) -> list[str]:
    """Return comma-separated values, without empty ones."""
    items = env_str(name, ",".join(default)).split(",")
    return [item.strip() for item in items if item.strip()]


def env_entries(name: str, default: list[str], is_valid: Callable[[str], bool], rule: str) -> list[str]:
    """Return comma-separated values that are all valid. `rule` describes them in the plural."""
    entries = env_list(name, default)
    for number, entry in enumerate(entries, 1):
        if not is_valid(entry):  # an entry may contain a password by mistake, so it is not shown
            raise ImproperlyConfigured(f"{name} must list {rule}: entry {number} is not one.")
    return entries


def is_host(text: str) -> bool:
    """Return whether this is a host as browsers send it, without port: in ASCII, an IPv6 address in its short form."""
    if not text.startswith("["):
        return re.fullmatch(r"[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*", text) is not None
    try:
        return text.lower() == f"[{ipaddress.IPv6Address(text[1:-1])}]" and "%" not in text
    except ValueError:
        return False


def env_hosts(name: str, default: list[str]) -> list[str]:
    """Return host names for Django's ALLOWED_HOSTS: `example.com`, `.example.com` with all subdomains, or `*`."""
    rule = "hosts such as example.com or .example.com, without scheme, port and path, IPv6 as [::1]"
    return env_entries(name, default, lambda host: host == "*" or is_host(host.removeprefix(".")), rule)


def env_origins(name: str) -> list[str]:
    """Return the origins that browsers send: `https://example.com:8443`, or `https://*.example.com`."""
    rule = "origins such as https://example.com, https://*.example.com or https://example.com:8443, in lower case and"

    def is_valid(entry: str) -> bool:
        return host_of_origin(entry.replace("://*.", "://", 1)) is not None

    return env_entries(name, [], is_valid, f"{rule} without path and default port")


def host_of_origin(text: str) -> str | None:
    """Return the host of an origin as browsers send it, or None if this is not an origin."""
    origin = re.fullmatch(r"(https?)://(.+?)(?::([1-9][0-9]{0,4}))?", text)
    if origin is None or text != text.lower() or not is_host(origin[2]):
        return None
    default = "443" if origin[1] == "https" else "80"
    return origin[2] if origin[3] != default and int(origin[3] or default) <= 65535 else None


def env_base_url(name: str, hosts: list[str], *, debug: bool) -> str:
    """Return the public URL of this installation: scheme, host and port, without a slash at the end.

    Its host must match `hosts`, which are ALLOWED_HOSTS. If they are a single host, the default is https and that host.
    With `debug`, the default is the URL of the development server.
    """
    url = env_str(name, "")
    if not url and debug:
        return f"http://127.0.0.1:{server_option('port', 8000)}"
    if not url and len(hosts) == 1 and is_host(hosts[0]):
        return f"https://{hosts[0].lower()}"
    if not url:
        raise ImproperlyConfigured(
            f"{name} must be this site's public URL, such as https://example.com, unless ALLOWED_HOSTS is one host."
        )
    host = host_of_origin(url)
    if host is None or not (debug or url.startswith("https:")):
        rule = "in lower case, without path and default port" + ("" if debug else ", and https when DEBUG is off")
        raise ImproperlyConfigured(f"{name} must be a URL such as https://example.com, {rule}.")
    if not validate_host(host, hosts):
        raise ImproperlyConfigured(f"{name} must have a host that ALLOWED_HOSTS lists.")
    return url


def env_networks(name: str) -> list[IPNetwork]:
    """Return comma-separated IP addresses and networks: `10.0.0.7, 2001:db8::/32`."""
    rule = "IP addresses and networks such as 10.0.0.7, 10.0.0.0/8 or 2001:db8::/32, not all of the Internet"
    return [ipaddress.ip_network(entry) for entry in env_entries(name, [], _is_network, rule)]


def _is_network(text: str) -> bool:
    """Return whether this is a network that can match: peers with IPv4-mapped addresses are compared as IPv4."""
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        return False
    return network.prefixlen > 0 and getattr(network.network_address, "ipv4_mapped", None) is None


def env_contact(name: str) -> str:
    """Return an email address or a URL that starts with `https://`, or an empty string."""
    contact = env_str(name, "")
    validate_contact = URLValidator(["https"]) if contact.startswith("https://") else validate_email
    try:
        if contact:
            validate_contact(contact)
            contact.encode("ascii")
    except (ValidationError, UnicodeEncodeError):
        raise ImproperlyConfigured(
            f"{name} must be an email address such as support@example.com, or a URL that starts with https://."
        ) from None
    return contact


def env_listener(name: str) -> tuple[str, int] | None:
    """Return the IP address and port to listen on, such as `127.0.0.1:9401`. Port 0 is any free port."""
    value = env_str(name, "")
    if not value:
        return None
    try:
        host, port = re.fullmatch(r"(\[.+\]|[^:]+):([0-9]{1,5})", value).groups()  # type: ignore[union-attr]
        if int(port) <= 65535:
            return str(ipaddress.ip_address(host.strip("[]"))), int(port)
    except (AttributeError, ValueError):
        pass
    raise ImproperlyConfigured(f"{name} must be an IP address and a port, such as 127.0.0.1:9401.")


def env_directory(name: str) -> Path | None:
    """Return the absolute path of a directory, which may be missing."""
    value = env_str(name, "")
    if value and not Path(value).is_absolute():
        raise ImproperlyConfigured(f"{name} must be an absolute path.")
    return Path(value) if value else None


OWN_CACHES = {  # not shared between processes
    "locmem://": "django.core.cache.backends.locmem.LocMemCache",
    "dummy://": "django.core.cache.backends.dummy.DummyCache",
}
REDIS_URL = re.compile(r"rediss?://([^\s/?#\[\]]*@)?([0-9A-Za-z_.-]+|\[[0-9A-Fa-f:.]+\])(:[1-9][0-9]{0,4})?(/[0-9]*)?")


def env_cache(name: str, size: dict[str, Any]) -> dict[str, Any]:
    """Return the entry of `CACHES` for a URL: this process's memory by default, with the options `size`, or Redis.

    A Redis that does not respond raises after half a second.
    """
    url = env_str(name, "") or "locmem://"
    if url in OWN_CACHES:
        return {"BACKEND": OWN_CACHES[url], "OPTIONS": size}
    redis = REDIS_URL.fullmatch(url)
    if redis is None or int((redis[3] or ":0")[1:]) > 65535:
        raise ImproperlyConfigured(
            f"{name} must be a URL such as redis://host:6379/0 or rediss://user:password@host:6379/0, in which special "
            "characters of the password are percent-encoded."
        )
    return {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": [url],
        "OPTIONS": {"socket_timeout": 0.5, "socket_connect_timeout": 0.5, "retry": Retry(NoBackoff(), 0)},
    }


def server_option(option: str, default: int) -> int:
    """Return granian's option `workers`, `blocking-threads` or `port`, from its command line or environment variable.

    granian's workers inherit both. `manage.py quickstart`, which runs granian, has the option `port` too.
    """
    is_server = "granian" in sys.argv[0] or "quickstart" in sys.argv[1:2]
    values = re.findall(rf"--{option}[ =](\d+)", " ".join(sys.argv)) if is_server else []
    return int(values[-1]) if values else env_int(f"GRANIAN_{option.upper().replace('-', '_')}", default)


def make_directory(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImproperlyConfigured(f"The directory {path} can't be created: {error.strerror}.") from None


def development_secret_key(path: Path) -> str:
    """Return the key in `path`, a file that only its owner can read.

    The first process creates it; a hard link makes that atomic.
    """
    make_directory(path.parent)
    try:
        if not path.exists():
            descriptor, new = tempfile.mkstemp(dir=path.parent)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_urlsafe(50))
            try:
                with suppress(FileExistsError):
                    path.hardlink_to(new)
            finally:
                Path(new).unlink()
        path.chmod(0o600)
        key = path.read_text()
    except OSError as error:
        raise ImproperlyConfigured(f"SECRET_KEY can't be kept in {path}: {error.strerror}.") from None
    if not key:
        raise ImproperlyConfigured(f"SECRET_KEY must not be empty: delete {path}, or set the variable.")
    return key


def is_weak_key(key: str) -> bool:
    """Return whether a signing key could be guessed, by the rules of Django's `security.W009` check."""
    return len(key) < 50 or len(set(key)) < 5 or key.startswith("django-insecure-")
