"""The client's IP address, also behind trusted proxies."""

import ipaddress
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.http import HttpRequest

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


@lru_cache(maxsize=4096)
def _parse(text: str) -> IPAddress | None:
    try:
        ip = ipaddress.ip_address(text.strip())
    except ValueError:
        return None
    return getattr(ip, "ipv4_mapped", None) or ip


def _is_trusted(ip: IPAddress) -> bool:
    return any(ip in network for network in settings.TRUSTED_PROXIES)


def sent_by_trusted_proxy(request: HttpRequest) -> bool:
    peer = _parse(request.META.get("REMOTE_ADDR", ""))
    return peer is not None and _is_trusted(peer)


def client_ip(request: HttpRequest) -> str | None:
    """Return the client IP as text, or None if the server reports none (a Unix socket).

    X-Forwarded-For is read from its end, where the nearest proxy adds its entry. The first IP that is not in
    `TRUSTED_PROXIES` is the client's. The entries before it are ignored: the client can forge them.
    """
    if not hasattr(request, "_client_ip"):  # cached: logs, rate limits and audit events all use it
        request._client_ip = _client_ip(request.META)  # type: ignore[attr-defined]  # our own
    ip: str | None = request._client_ip  # type: ignore[attr-defined]  # our own
    return ip


def _client_ip(meta: dict[str, Any]) -> str | None:
    client = _parse(meta.get("REMOTE_ADDR", ""))
    hops = meta.get("HTTP_X_FORWARDED_FOR", "").split(",")
    while client is not None and _is_trusted(client) and hops:
        hop = _parse(hops.pop())
        if hop is None:
            break
        client = hop
    return str(client) if client is not None else None


def network_of(ip: str | None) -> str:
    """Return the network that rate limits count: an IPv6 client's /64, the IPv4 address itself, or "" for None.

    A client usually owns a whole IPv6 /64, and could use a new IP for each request.
    """
    if ip is None or ":" not in ip:
        return ip or ""
    return str(ipaddress.ip_network((ip.partition("%")[0], 64), strict=False))
