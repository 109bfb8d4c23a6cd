"""Django's PostgreSQL backend with time limits and a pool that replaces dead connections. See docs/architecture.md.

Behind a transaction pooler (`pgbouncer` in OPTIONS) nothing is prepared on the server: clients share the server's
connections there and use the same names for prepared statements, so one client could run another's statement.

If DATABASE_URL lists several hosts, a connection leads to the first one that accepts writes.
"""

import logging
import os
import select
import threading
from time import monotonic
from typing import Any, Self, TypeVar

import psycopg
from django.core.exceptions import ImproperlyConfigured
from django.db.backends.base.base import NO_DB_ALIAS
from django.db.backends.postgresql import base
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus
from psycopg_pool import ConnectionPool, PoolTimeout

from core.db import contention
from core.db.faults import PoolExhausted
from core.db.postgresql.schema import SchemaEditor

T = TypeVar("T")

logger = logging.getLogger("onehorizon.database")

BACKEND_QUERY = "SELECT pg_backend_pid(), quote_ident(current_user)"
READ_ONLY_QUERY = "SELECT current_setting('transaction_read_only')::boolean"
LIMITS_QUERY = "SELECT name, setting::bigint FROM pg_settings WHERE name = ANY(%s)"

UNDECLARED_POOLER = (
    "DATABASE_URL points to an undeclared connection pooler. Add ?pgbouncer=true, as in "
    "postgres://user@host/name?pgbouncer=true. See docs/operations.md."
)


class Connection(psycopg.Connection[Any]):
    """A connection with a client-side time limit for statements. Closes itself if the server is frozen or read-only.

    PostgreSQL's own timeouts don't run while its host is frozen, and the socket stays open. psycopg has no setting for
    a client-side limit, but every statement passes through `wait`, which accepts a timeout.
    """

    client_timeout: float | None = None  # seconds for a statement; None: no limit
    # By host and port: connections created before this time (`monotonic()`) are not used any more.
    stale_before: dict[tuple[str, int], float] = {}
    problem = ""  # why the last attempt to connect failed; blank after a success

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.created_at = monotonic()
        self.server = self.info.host, self.info.port

    @classmethod
    def connect(cls, *arguments: Any, **options: Any) -> Self:
        try:
            connection = super().connect(*arguments, **options)
        except psycopg.OperationalError as error:
            Connection.problem = str(error)
            raise
        Connection.problem = ""
        return connection

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        """Wait for the server. Raise `OperationalError` after the time limit, and for a write on a standby.

        After a failover the server may be a read-only standby. The response to an `OperationalError` is a 503, so that
        clients retry.
        """
        try:
            return super().wait(gen, interval, self.client_timeout if timeout is None else timeout)
        except psycopg.errors.LockNotAvailable:
            contention.report_timeout()
            raise
        except psycopg.OperationalError:
            if self.info.transaction_status == TransactionStatus.ACTIVE:
                self._invalidate()
            raise
        except psycopg.errors.ReadOnlySqlTransaction as error:
            self._invalidate()
            raise psycopg.OperationalError(*error.args) from error

    def _invalidate(self) -> None:
        """Close this connection, and mark all others of this process to the same server as stale."""
        Connection.stale_before[self.server] = monotonic()
        self.close()

    @property
    def is_stale(self) -> bool:
        return self.created_at < Connection.stale_before.get(self.server, 0.0)


class PoolerConnection(Connection):
    """A connection through a pooler, to the first of its hosts whose server accepts writes.

    libpq can't choose the host here. PgBouncer accepts clients while its server is down, and repeats to them what the
    server reported at its first connection: with `target_session_attrs`, a promoted standby would stay unused.
    """

    CHECK_TIMEOUT = 2.0  # seconds
    is_checked = False

    @classmethod
    def connect(cls, conninfo: str = "", **params: Any) -> Self:
        """Connect to the first host that accepts writes. Raise `OperationalError` if there is none."""
        errors = []
        for server in each_server(params):
            try:
                connection = super().connect(conninfo, **server)
                connection.require_writable()
            except psycopg.OperationalError as error:
                errors.append(error)
            else:
                return connection
        Connection.problem = "; ".join(map(str, errors))
        raise psycopg.OperationalError(Connection.problem) from errors[-1]

    def require_writable(self) -> None:
        """Close this connection and raise `OperationalError` if the server does not respond or is read-only."""
        self.client_timeout = self.CHECK_TIMEOUT
        try:
            [(is_read_only,)] = psycopg.Cursor(self).execute(READ_ONLY_QUERY, prepare=False).fetchall()
            if is_read_only:
                raise psycopg.OperationalError(f"the server behind {self.info.host}:{self.info.port} is read-only")
        except BaseException:
            self.close()
            raise
        del self.client_timeout  # the class has the limit of other statements
        self.is_checked = True

    def _invalidate(self) -> None:
        """Before the check has succeeded, close only this connection: the pooler may just be busy."""
        if self.is_checked:
            super()._invalidate()
        else:
            self.close()


def each_server(params: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the parameters of a connection to each of the hosts, which commas separate as in libpq."""
    lists = {name: str(params[name]).split(",") for name in ("host", "hostaddr", "port") if params.get(name)}
    count = max(map(len, lists.values()), default=1)
    return [
        params | {name: values[index % len(values)] for name, values in lists.items()}  # one port is for all hosts
        for index in range(count)
    ]


class Pool(ConnectionPool[Connection]):
    """Returns live connections only, and does not queue requests while the database is unavailable.

    After one request has timed out, the others wait only `SHORT_TIMEOUT` seconds, until one gets a connection.
    psycopg's own `check` would sleep for a second after the second dead connection, and for two after the third.
    """

    SHORT_TIMEOUT = 0.1  # seconds
    is_unavailable = False

    def getconn(self, timeout: float | None = None) -> Connection:
        """Return a live connection. Raise `PoolTimeout` if there is none within `timeout` seconds, and say why."""
        if timeout is None:
            timeout = self.SHORT_TIMEOUT if self.is_unavailable else self.timeout
        deadline = monotonic() + timeout
        try:
            connection = super().getconn(timeout)
            while is_dead(connection):
                connection.close()
                self.putconn(connection)  # replaces a closed connection
                connection = super().getconn(deadline - monotonic())
        except PoolTimeout as error:
            self.is_unavailable = True
            if Connection.problem:
                raise PoolTimeout(f"{error}: {Connection.problem}") from error
            if self.get_stats()["pool_size"] == self.max_size:
                raise PoolExhausted(*error.args) from error
            raise
        self.is_unavailable = False
        return connection


def is_dead(connection: Connection) -> bool:
    """Return whether an idle connection is closed, stale, or being closed by the server. Needs no round trip.

    A server sends data on an idle connection when it closes it. Rarely it sends something else, such
    as a changed parameter. A live connection is then replaced, which is harmless.
    """
    if connection.closed or connection.is_stale:
        return True
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


class ReturnOnThreadExit:
    """Returns the thread's connection to the pool when the thread ends. granian ends idle threads.

    The thread's local data holds the only reference, so Python deletes the object when the thread ends.
    """

    def __init__(self, database: "DatabaseWrapper") -> None:
        self.database = database

    def __del__(self) -> None:
        connection, self.database.connection = self.database.connection, None
        if connection is not None and self.database.pool:
            self.database.pool.putconn(connection)


_thread = threading.local()


class DatabaseWrapper(base.DatabaseWrapper):
    SchemaEditorClass = SchemaEditor
    limits: dict[str, int] = {}  # PostgreSQL's timeouts in milliseconds, by name; set in servers, not in commands

    def get_connection_params(self) -> dict[str, Any]:
        """Add the time limits to `options`, where they override PGOPTIONS.

        A pooler rejects `options`; the empty string keeps libpq from reading PGOPTIONS.
        """
        params: dict[str, Any] = super().get_connection_params()
        if params.pop("pgbouncer"):
            return params | {"options": "", "prepare_threshold": None, "target_session_attrs": "any"}
        if self.limits:
            options = params.get("options") or os.environ.get("PGOPTIONS", "")
            params["options"] = " ".join([options, *(f"-c {name}={value}" for name, value in self.limits.items())])
        return params

    def check_before_serving(self) -> None:
        """Raise `ImproperlyConfigured` if a pooler is not declared or a time limit has no effect.

        If the database is unavailable, log a warning and return: the server may start before the database, and
        `configure` checks each connection.
        """
        try:
            with self.connection_class.connect(**self.get_connection_params() | {"autocommit": True}) as connection:
                self._check(connection)
        except psycopg.OperationalError as error:
            if "unsupported startup parameter" in str(error):  # PgBouncer's message
                raise ImproperlyConfigured(UNDECLARED_POOLER) from error
            logger.warning("the database could not be checked before serving: %s", error)

    def configure(self, connection: Connection) -> None:
        """Check and set up a new connection of the pool. The pool would not close it after an exception."""
        try:
            self._check(connection)
        except BaseException:
            connection.close()
            raise
        self._configure_connection(connection)  # type: ignore[attr-defined]  # not in the stubs

    def _check(self, connection: Connection) -> None:
        """Turn off prepared statements behind a pooler. In servers, also check the pooler and the time limits.

        Servers raise `ImproperlyConfigured` for an undeclared pooler and for a time limit that has no effect. Commands
        accept both.
        """
        cursor = psycopg.Cursor(connection)
        [(pid, role)] = cursor.execute(BACKEND_QUERY, prepare=False).fetchall()
        is_pooled = pid != connection.info.backend_pid  # a pooler reports an invented process id to its clients
        if is_pooled:
            connection.prepare_threshold = None
        if not self.limits:
            return
        in_effect = dict(cursor.execute(LIMITS_QUERY, [list(self.limits)], prepare=False))
        missing = {name: limit for name, limit in self.limits.items() if not 0 < in_effect[name] <= limit}
        if (is_pooled or missing) and not self.settings_dict["OPTIONS"]["pgbouncer"]:
            raise ImproperlyConfigured(UNDECLARED_POOLER)
        if missing:
            statements = "; ".join(f"ALTER ROLE {role} SET {name} = {limit}" for name, limit in missing.items())
            raise ImproperlyConfigured(f"Behind a pooler, set the time limits in PostgreSQL: {statements}.")

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """Borrow a connection from the pool, and return it when the thread ends."""
        if self.pool and not hasattr(_thread, "return_on_exit"):
            _thread.return_on_exit = ReturnOnThreadExit(self)
        return super().get_new_connection(conn_params)

    def close_if_unusable_or_obsolete(self) -> None:
        """Return this thread's connection to the pool if it is dead. Django calls this before each request."""
        if self.pool and self.connection is not None and is_dead(self.connection):
            self.close()
        super().close_if_unusable_or_obsolete()

    @property
    def connection_class(self) -> type[Connection]:
        return PoolerConnection if self.settings_dict["OPTIONS"]["pgbouncer"] else Connection

    @property
    def pool(self) -> Pool | None:
        """The process's pool. Django's property can't create a `Pool`, and rejects a CONN_MAX_AGE other than 0."""
        options = self.settings_dict["OPTIONS"].get("pool")
        if self.alias == NO_DB_ALIAS or not options:
            return None
        pools: dict[str, Pool] = self._connection_pools  # type: ignore[attr-defined]  # not in the stubs
        if self.alias not in pools:
            pool = Pool(
                kwargs=self.get_connection_params() | {"autocommit": True},
                connection_class=self.connection_class,
                open=False,
                configure=self.configure,
                **options,
            )
            pools.setdefault(self.alias, pool)  # atomic: several threads may get here, one pool is used
        return pools[self.alias]
