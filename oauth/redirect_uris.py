"""Which redirect URIs an application can have (RFC 8252, section 7)."""

import ipaddress
import re
from urllib.parse import urlsplit

from oauthlib.uri_validate import is_absolute_uri

# A reversed domain name of the app's author, so that no other app uses it by accident (RFC 8252, section 7.1).
_PRIVATE_USE_SCHEME = re.compile(r"[a-z][a-z0-9+-]*(\.[a-z0-9+-]+)+")
# A host name as DNS has it, or an IP address, with or without a port.
_AUTHORITY = re.compile(r"([a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(:[0-9]+)?", re.IGNORECASE)


def redirect_uri_problem(uri: str, *, is_public: bool) -> str | None:
    """Return why an application can't have this redirect URI, or None.

    A code must not cross a network unencrypted, nor reach another app (RFC 8252, section 7).
    """
    try:
        parts = urlsplit(uri)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "This is not a valid URL."
    if uri.endswith(","):
        return "Separate redirect URIs by spaces or line breaks, not by commas."
    if "#" in uri or "@" in parts.netloc:
        return "A redirect URI must not have a fragment or a user name."
    if not is_absolute_uri(uri):  # oauthlib would reject each authorization request
        return "Percent-encode special characters, and write the host in Punycode."
    if _PRIVATE_USE_SCHEME.fullmatch(parts.scheme):
        return None if is_public else "Only a public client, such as a mobile app, can have a private-use scheme."
    if host and not _AUTHORITY.fullmatch(parts.netloc):
        return "The host is not valid. Wildcards are not supported."
    if host and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))):
        return None
    return (
        "Use https, http on a loopback host (127.0.0.1, [::1] or localhost), or a private-use scheme that contains "
        "a dot, such as com.example.app:/callback."
    )


def is_loopback(host: str | None) -> bool:
    """Return whether this host is `localhost` or a loopback IP address."""
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return host == "localhost"
