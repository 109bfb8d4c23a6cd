"""Where a request came from, when proxies stand between."""

import ipaddress

from django.conf import settings
from django.http import HttpRequest

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


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


def client_address(request: HttpRequest) -> str | None:
    """The address that a request came from, as text; None where the server gives none (a Unix socket).

    X-Forwarded-For is read from its end, the hop nearest to us, and only as far as `TRUSTED_PROXIES` vouches:
    the first address that isn't a trusted proxy is the client's, and whatever stands before it is its own claim.
    """
    client = _parsed(request.META.get("REMOTE_ADDR", ""))
    hops = request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")
    while client is not None and _trusted(client) and hops:
        hop = _parsed(hops.pop())
        if hop is None:
            break
        client = hop
    return str(client) if client is not None else None
