"""Prometheus metrics of this process, served on a separate port. Without METRICS_ADDRESS nothing is measured.

Labels must be bounded, and contain no person, key or client IP. See docs/architecture.md.
"""

import errno
import logging
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext

from django.conf import settings
from django.db import connection
from django.http import HttpRequest, HttpResponse
from prometheus_client import REGISTRY, Counter, Histogram, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from core.argon2 import TooBusy
from core.db.faults import CAUSES

logger = logging.getLogger("onehorizon.metrics")

# Statuses of requests that were rejected before a view did its work. A client that repeats them in a loop would
# otherwise hide slow requests behind many fast ones.
REJECTED = {401, 429, 503}
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
UNMATCHED = "unmatched"  # the route of a request that no URL pattern matches
PORTS = 64  # how many ports a process tries; each process needs one

_ENABLED = settings.METRICS_ADDRESS is not None

_requests = Counter("onehorizon_requests", "Completed requests.", ["method", "route", "status"])
_latency = Histogram(
    "onehorizon_request_seconds",
    "Time from the arrival of a request to its response.",
    ["method", "route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
_unavailable = Counter("onehorizon_unavailable", "Responses with the status 503.", ["cause"])
_authentications = Counter(
    "onehorizon_authentications", "Authentications by bearer token.", ["kind", "outcome", "reason"]
)
_rejections = Counter("onehorizon_quota_rejections", "Requests rejected because a quota was exceeded.", ["tier"])
_proofs = Counter("onehorizon_proofs", "Correct secrets, by whether the proof cache had an entry.", ["outcome"])
_argon2 = Histogram(
    "onehorizon_argon2_seconds",
    "Duration of an Argon2 run, without the wait for the semaphore.",
    buckets=(0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1),
)


if _ENABLED:
    for cause in (*CAUSES, TooBusy.cause):
        _unavailable.labels(cause)  # exported as 0, so that a rate includes the first 503


def observe_request(request: HttpRequest, response: HttpResponse, seconds: float) -> None:
    """Count a completed request, and observe its duration unless it was rejected.

    The label is the URL pattern: paths are unbounded.
    """
    if _ENABLED:
        method = request.method if request.method in METHODS else "other"
        route = request.resolver_match.route if request.resolver_match else UNMATCHED
        _requests.labels(method, route, response.status_code).inc()
        if response.status_code not in REJECTED:
            _latency.labels(method, route).observe(seconds)


def count_unavailable(cause: str) -> None:
    """Count a 503. `cause`: one of `CAUSES`, or that of `TooBusy`."""
    if _ENABLED:
        _unavailable.labels(cause).inc()


def count_authentication(kind: str, outcome: str, reason: str = "") -> None:
    """Count an authentication.

    `kind`: `api_key`, `access_token`; `outcome`: `authenticated`, `rejected`; `reason`: why it was rejected.
    """
    if _ENABLED:
        _authentications.labels(kind, outcome, reason).inc()


def count_quota_rejection(tier: str) -> None:
    if _ENABLED:
        _rejections.labels(tier).inc()


def count_proof(outcome: str) -> None:
    """Count a lookup in the proof cache. `outcome`: `hit`, `miss`."""
    if _ENABLED:
        _proofs.labels(outcome).inc()


def time_argon2() -> AbstractContextManager[object]:
    """Return a context manager that measures an Argon2 run."""
    return _argon2.time() if _ENABLED else nullcontext()


class PoolCollector(Collector):
    """Reports the state of the PostgreSQL connection pool when Prometheus scrapes. SQLite has no pool."""

    def collect(self) -> Iterable[Metric]:
        pool = getattr(connection, "pool", None)
        if pool is None:
            return
        stats = pool.get_stats()
        gauges = {
            "size": ("Connections in the pool.", stats["pool_size"]),
            "max": ("Maximum number of connections.", stats["pool_max"]),
            "in_use": ("Connections in use by threads.", stats["pool_size"] - stats["pool_available"]),
            "waiting": ("Requests that wait for a connection.", stats["requests_waiting"]),
        }
        for name, (documentation, value) in gauges.items():
            yield GaugeMetricFamily(f"onehorizon_pool_{name}", documentation, value)


def serve(*collectors: Callable[[], Collector]) -> None:
    """Serve the metrics of this process on the first free port from METRICS_ADDRESS on, if that is set.

    `collectors` report the metrics of apps. If no port can be bound, log a warning and return: the process must serve
    requests without metrics too.
    """
    if settings.METRICS_ADDRESS is None:
        return
    host, first = settings.METRICS_ADDRESS
    for collector in (PoolCollector, *collectors):
        REGISTRY.register(collector())
    for port in range(first, min(first + PORTS, 65536)) if first else [0]:
        try:
            listener, _ = start_http_server(port, host)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                continue
            logger.warning("no metrics: %s:%s could not be bound (%s)", host, port, error.strerror)
            return
        logger.info("metrics at http://%s:%s/metrics", host, listener.server_port)
        return
    logger.warning("no metrics: all %s ports from %s:%s on are in use", PORTS, host, first)
