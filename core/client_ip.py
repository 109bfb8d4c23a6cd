"""Where a request came from, when proxies stand between."""

import ipaddress
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.http import HttpRequest

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


@lru_cache(maxsize=4096)
def _parsed(text: str) -> IPAddress | None:
    try:
        address = ipaddress.ip_address(text.strip())
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _trusted(address: IPAddress) -> bool:
    return any(address in network for network in settings.TRUSTED_PROXIES)


def sent_by_trusted_proxy(request: HttpRequest) -> bool:
    peer = _parsed(request.META.get("REMOTE_ADDR", ""))
    return peer is not None and _trusted(peer)


def client_ip(request: HttpRequest) -> str | None:
    """The address that a request came from, as text; None where the server gives none (a Unix socket).

    X-Forwarded-For is read from its end, the hop nearest to us, and only as far as `TRUSTED_PROXIES` vouches:
    the first address that isn't a trusted proxy is the client's, and whatever stands before it is its own claim.
    """
    if not hasattr(request, "_client_ip"):  # the log, the limits and the audit events ask for it
        request._client_ip = _client_ip(request.META)  # type: ignore[attr-defined]
    found: str | None = request._client_ip  # type: ignore[attr-defined]
    return found


def _client_ip(meta: dict[str, Any]) -> str | None:
    client = _parsed(meta.get("REMOTE_ADDR", ""))
    hops = meta.get("HTTP_X_FORWARDED_FOR", "").split(",")
    while client is not None and _trusted(client) and hops:
        hop = _parsed(hops.pop())
        if hop is None:
            break
        client = hop
    return str(client) if client is not None else None


def network_of(address: str | None) -> str:
    """What limits count in place of an address: of IPv6 the /64, which one client owns; "" where there is none."""
    if address is None or ":" not in address:
        return address or ""
    return str(ipaddress.ip_network((address.partition("%")[0], 64), strict=False))
