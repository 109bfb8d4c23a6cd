"""Prometheus metrics and liveness of this process, on a separate port. Without METRICS_ADDRESS nothing is measured.

Labels must be bounded, and contain no person, key or client IP. See docs/architecture.md.
"""

import errno
import logging
import re
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from django.conf import settings
from django.db import connection
from django.http import HttpRequest, HttpResponse
from prometheus_client import REGISTRY, Counter, Gauge, Histogram, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from core.argon2 import TooBusy
from core.client_ip import sent_by_trusted_proxy
from core.db import contention
from core.db.faults import CAUSES

logger = logging.getLogger("onehorizon.metrics")

# Statuses of requests that were rejected before a view did its work. A client that repeats them in a loop would
# otherwise hide slow requests behind many fast ones.
REJECTED = {401, 429, 503}
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
UNMATCHED = "unmatched"  # the route of a request that no URL pattern matches
REQUEST_START = re.compile(r"t=([0-9]{1,10}(?:\.[0-9]{1,9})?)")  # seconds since the Unix epoch, as nginx's $msec
PORTS = 64  # how many ports a process tries; each process needs one

_ENABLED = settings.METRICS_ADDRESS is not None

_requests = Counter("onehorizon_requests", "Completed requests.", ["method", "route", "status"])
_latency = Histogram(
    "onehorizon_request_seconds",
    "Time from the arrival of a request to its response.",
    ["method", "route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
_queue = Histogram(
    "onehorizon_queue_seconds",
    "Time from the X-Request-Start of a trusted proxy until a thread handled the request.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
_blocked = Gauge("onehorizon_blocked_resources", "Rows and tables that requests waited for too long.")
_blocked.set_function(contention.count_blocked)
_unavailable = Counter("onehorizon_unavailable", "Responses with the status 503.", ["cause"])
_authentications = Counter(
    "onehorizon_authentications", "Authentications by bearer token.", ["kind", "outcome", "reason"]
)
_rejections = Counter("onehorizon_quota_rejections", "Requests rejected because a quota was exceeded.", ["tier"])
_proofs = Counter("onehorizon_proofs", "Correct secrets, by where a proof was found.", ["outcome"])
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


def observe_queue(request: HttpRequest) -> None:
    """Observe how long the request waited for a thread. Call it first.

    Only a trusted proxy is believed. A malformed time, or one in the future, is ignored.
    """
    if not _ENABLED:
        return
    start = REQUEST_START.fullmatch(request.META.get("HTTP_X_REQUEST_START", ""))
    if start is None or not sent_by_trusted_proxy(request):
        return
    seconds = time.time() - float(start[1])
    if seconds >= 0:
        _queue.observe(seconds)


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
    """Count a search for a proof.

    `outcome`: `hit` in this process's memory, `shared` in the key's row, `miss`: Argon2 runs.
    """
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


def with_liveness(metrics_app: Any) -> Any:
    """Return a WSGI application that also answers `/healthz`, in a thread of its own.

    It responds while every thread for requests waits for the database, when a restart would not help.
    """

    def respond(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/healthz":
            body: Iterable[bytes] = metrics_app(environ, start_response)
            return body
        start_response("200 OK", [("Content-Type", "application/json")])
        return [b'{"status": "ok"}']

    return respond


def _log_failure(request: Any, client_address: Any) -> None:
    """Log that a scrape failed, such as by a disconnection. The listener would print a traceback of many lines."""
    logger.warning("a request for metrics failed: %r", sys.exception())


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
        listener.set_app(with_liveness(listener.get_app()))
        listener.handle_error = _log_failure  # type: ignore[method-assign]
        logger.info("metrics at http://%s:%s/metrics", host, listener.server_port)
        return
    logger.warning("no metrics: all %s ports from %s:%s on are in use", PORTS, host, first)
