"""Prometheus metrics of this process, on a listener of its own. Nothing is counted while METRICS_ADDRESS is unset.

Labels must be bounded, and contain no person, key or client IP. See docs/architecture.md.
"""

import errno
import logging
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext

from django.conf import settings
from django.db import connection
from django.http import HttpRequest, HttpResponse
from prometheus_client import REGISTRY, Counter, Histogram, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

logger = logging.getLogger("onehorizon.metrics")

METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
PORTS = 64  # how many processes may stand side by side

_ON = settings.METRICS_ADDRESS is not None

_requests = Counter("onehorizon_requests", "Requests answered.", ["method", "route", "status"])
_latency = Histogram(
    "onehorizon_request_seconds",
    "Time from a request's arrival to its answer.",
    ["method", "route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
_authentications = Counter("onehorizon_authentications", "Bearer strings judged.", ["kind", "outcome"])
_refusals = Counter("onehorizon_quota_refusals", "Requests refused by a quota.", ["tier"])
_proofs = Counter("onehorizon_proofs", "Right secrets, by whether a proof of them was at hand.", ["outcome"])
_argon2 = Histogram(
    "onehorizon_argon2_seconds",
    "Time in Argon2, without the wait for a turn.",
    buckets=(0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1),
)


def count_request(request: HttpRequest, response: HttpResponse, seconds: float) -> None:
    if _ON:
        method = request.method if request.method in METHODS else "other"
        route = request.resolver_match.route if request.resolver_match else "unmatched"
        _requests.labels(method, route, response.status_code).inc()
        _latency.labels(method, route).observe(seconds)


def count_authentication(kind: str, outcome: str) -> None:
    if _ON:
        _authentications.labels(kind, outcome).inc()


def count_quota_refusal(tier: str) -> None:
    if _ON:
        _refusals.labels(tier).inc()


def count_proof(outcome: str) -> None:
    if _ON:
        _proofs.labels(outcome).inc()


def time_argon2() -> AbstractContextManager[object]:
    return _argon2.time() if _ON else nullcontext()


class PoolCollector(Collector):
    """The connections to PostgreSQL, as they stand when asked. SQLite has no pool."""

    def collect(self) -> Iterable[Metric]:
        pool = getattr(connection, "pool", None)
        if pool is None:
            return
        told = pool.get_stats()
        figures = {
            "size": ("Connections of the pool.", told["pool_size"]),
            "max": ("Connections the pool may have.", told["pool_max"]),
            "in_use": ("Connections lent to threads.", told["pool_size"] - told["pool_available"]),
            "waiting": ("Requests that wait for a connection.", told["requests_waiting"]),
        }
        for name, (text, value) in figures.items():
            yield GaugeMetricFamily(f"onehorizon_pool_{name}", text, value)


def serve() -> None:
    """Opens this process's listener, where there is to be one. What serves customers goes on where it can't be had."""
    if settings.METRICS_ADDRESS is None:
        return
    host, first = settings.METRICS_ADDRESS
    REGISTRY.register(PoolCollector())
    for port in range(first, min(first + PORTS, 65536)) if first else [0]:
        try:
            listener, _ = start_http_server(port, host)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                continue
            logger.warning("no metrics: %s:%s is not to be had (%s)", host, port, error.strerror)
            return
        logger.info("metrics at http://%s:%s/metrics", host, listener.server_port)
        return
    logger.warning("no metrics: %s ports from %s:%s on are taken", PORTS, host, first)
