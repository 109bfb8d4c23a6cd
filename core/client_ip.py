"""The client's IP address, also behind trusted proxies."""

import ipaddress
import logging
import re
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.http import HttpRequest

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

logger = logging.getLogger("onehorizon.client_ip")

# `203.0.113.7:51234`, `[2001:db8::7]` and `[2001:db8::7]:51234`. RFC 7239 calls these a node.
_NODE = re.compile(r"(?P<ipv4>[0-9.]+):[0-9]{1,5}|\[(?P<ipv6>[^\[\]]*:[^\[\]]*)\](:[0-9]{1,5})?")
_MAX_REPORTED = 100
_reported: set[IPAddress] = set()  # the proxies whose malformed entries have been logged

MULTIPLE_OF_48 = 8  # how many times as much an IPv6 /48 may use as a /64


@lru_cache(maxsize=4096)
def _parse(text: str) -> IPAddress | None:
    """Return an IP address without its port, brackets, quotes and zone. An IPv4-mapped one is returned as IPv4."""
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1]
    if node := _NODE.fullmatch(text):
        text = node["ipv4"] or node["ipv6"]
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(ip, "ipv4_mapped", None) or type(ip)(int(ip))  # without its zone


def _report(entry: str, proxy: IPAddress) -> None:
    """Log an entry that can't be parsed, once for each proxy and for `_MAX_REPORTED` proxies."""
    if proxy not in _reported and len(_reported) < _MAX_REPORTED:
        _reported.add(proxy)
        shown = ascii(entry.strip()[:100])
        logger.warning(
            "X-Forwarded-For from the trusted proxy %s has an entry that is not an IP address: %s", proxy, shown
        )


def _is_trusted(ip: IPAddress) -> bool:
    return any(ip in network for network in settings.TRUSTED_PROXIES)


def sent_by_trusted_proxy(request: HttpRequest) -> bool:
    peer = _parse(request.META.get("REMOTE_ADDR", ""))
    return peer is not None and _is_trusted(peer)


def client_ip(request: HttpRequest) -> str | None:
    """Return the client IP as text, or None if the server reports none (a Unix socket).

    X-Forwarded-For is read from its end, where the nearest proxy adds its entry. The first IP that is not in
    `TRUSTED_PROXIES` is the client's. The entries before it are ignored: the client can forge them. An entry that can't
    be parsed, such as `unknown`, ends the search: the client IP is then the proxy that sent it.
    """
    if not hasattr(request, "_client_ip"):  # cached: logs, rate limits and audit events all use it
        request._client_ip = _client_ip(request.META)  # type: ignore[attr-defined]  # our own
    ip: str | None = request._client_ip  # type: ignore[attr-defined]  # our own
    return ip


def _client_ip(meta: dict[str, Any]) -> str | None:
    client = _parse(meta.get("REMOTE_ADDR", ""))
    header = meta.get("HTTP_X_FORWARDED_FOR", "").strip()
    hops = header.split(",") if header else []
    while client is not None and _is_trusted(client) and hops:
        entry = hops.pop()
        hop = _parse(entry)
        if hop is None:
            _report(entry, client)
            break
        client = hop
    return str(client) if client is not None else None


def networks_of(ip: str | None) -> list[tuple[str, int]]:
    """Return the networks that rate limits count, each with the multiple of the limit that it may use.

    These are the IPv4 address itself, or an IPv6 client's /64 and /48. A client usually owns a whole /64, and could use
    a new IP for each request. Some own a /48, which has 65,536 of them. Many people can share one too, so its limit is
    higher.
    """
    if ip is None or ":" not in ip:
        return [(ip or "", 1)]
    address = ip.partition("%")[0]
    multiples = {64: 1, 48: MULTIPLE_OF_48}
    return [(str(ipaddress.ip_network((address, prefix), strict=False)), multiples[prefix]) for prefix in multiples]
