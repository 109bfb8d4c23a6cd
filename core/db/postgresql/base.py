"""Django's PostgreSQL backend, with time limits, and with a pool that replaces dead connections at no cost.

Behind a connection pooler (`pgbouncer` in OPTIONS) nothing is prepared on the server: several clients share a server's
connection there, each of them numbers its statements from 0, and one would run the other's.
"""

import os
import select
import threading
from time import monotonic
from typing import Any, TypeVar

import psycopg
from django.core.exceptions import ImproperlyConfigured
from django.db.backends.base.base import NO_DB_ALIAS
from django.db.backends.postgresql import base
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus
from psycopg_pool import ConnectionPool, PoolTimeout

T = TypeVar("T")

WHO = "SELECT pg_backend_pid(), quote_ident(current_user)"
IN_EFFECT = "SELECT name, setting::bigint FROM pg_settings WHERE name = ANY(%s)"

UNDECLARED_POOLER = (
    "DATABASE_URL leads to a connection pooler and must say so, as in postgres://user@host/name?pgbouncer=true "
    "(docs/operations.md has the rest)."
)


class Connection(psycopg.Connection[Any]):
    """Closes itself when its server is silent for longer than `patience`, or takes no writes, as after a failover.

    A frozen host keeps its sockets open and its own timeouts stand still, so the limit must be the client's. psycopg
    has no setting for one. Every statement passes through `wait`, which takes a timeout.
    """

    patience: float | None = None  # seconds for a statement; None: no limit
    given_up_at = 0.0  # when a connection was last given up: those made before are not used any more

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.made_at = monotonic()

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        try:
            return super().wait(gen, interval, self.patience if timeout is None else timeout)
        except psycopg.OperationalError:
            if self.info.transaction_status == TransactionStatus.ACTIVE:
                self._give_up()
            raise
        except psycopg.errors.ReadOnlySqlTransaction as error:
            self._give_up()
            raise psycopg.OperationalError(*error.args) from error

    def _give_up(self) -> None:
        Connection.given_up_at = monotonic()
        self.close()


class Pool(ConnectionPool[Connection]):
    """Hands out live connections only, and does not queue requests while the database is unavailable.

    After one request has waited for `timeout` seconds in vain, others wait `IMPATIENT`, until one gets a connection.
    The pool's own `check` would wait a second after the second dead connection, and two after the third.
    """

    IMPATIENT = 0.1
    is_unavailable = False

    def getconn(self, timeout: float | None = None) -> Connection:
        if timeout is None:
            timeout = self.IMPATIENT if self.is_unavailable else self.timeout
        deadline = monotonic() + timeout
        try:
            connection = super().getconn(timeout)
            while hung_up(connection):
                connection.close()
                self.putconn(connection)  # which replaces it
                connection = super().getconn(deadline - monotonic())
        except PoolTimeout:
            self.is_unavailable = True
            raise
        self.is_unavailable = False
        return connection


def hung_up(connection: Connection) -> bool:
    """Return whether the server has closed this connection, or another one was given up since it was made.

    A server that sends something unasked is closing the connection: a look at the socket tells, without a round trip.
    In the rare other case, such as a changed parameter, a live connection is replaced.
    """
    if connection.closed or connection.made_at < Connection.given_up_at:
        return True
    socket = select.poll()
    socket.register(connection.fileno(), select.POLLIN)
    return bool(socket.poll(0))


class EndOfThread:
    """Returns the thread's connection to the pool when the thread ends, as granian's do when they are idle."""

    def __init__(self, database: "DatabaseWrapper") -> None:
        self.database = database

    def __del__(self) -> None:
        connection, self.database.connection = self.database.connection, None
        if connection is not None and self.database.pool:
            self.database.pool.putconn(connection)


_thread = threading.local()


class DatabaseWrapper(base.DatabaseWrapper):
    limits: dict[str, int] = {}  # a server's, by PostgreSQL's names, in milliseconds; commands have none

    def get_connection_params(self) -> dict[str, Any]:
        """A pooler takes no `options`; an empty string also keeps libpq from reading PGOPTIONS."""
        params: dict[str, Any] = super().get_connection_params()
        if params.pop("pgbouncer"):
            return params | {"options": "", "prepare_threshold": None}
        if self.limits:
            given = params.get("options") or os.environ.get("PGOPTIONS", "")
            params["options"] = " ".join([given, *(f"-c {name}={value}" for name, value in self.limits.items())])
        return params

    def check_start(self) -> None:
        """Raise `ImproperlyConfigured` where this process must not serve. An unavailable database is no such case: it
        comes back, and each connection of the pool is checked as well.
        """
        try:
            with Connection.connect(**self.get_connection_params() | {"autocommit": True}) as connection:
                self._check(connection)
        except psycopg.OperationalError as error:
            if "unsupported startup parameter" in str(error):  # PgBouncer's words
                raise ImproperlyConfigured(UNDECLARED_POOLER) from error

    def configure(self, connection: Connection) -> None:
        """Check and set up a new connection of the pool."""
        try:
            self._check(connection)
        except BaseException:
            connection.close()
            raise
        self._configure_connection(connection)  # type: ignore[attr-defined]  # not in the stubs

    def _check(self, connection: Connection) -> None:
        """Stop preparing statements behind a pooler, and raise `ImproperlyConfigured` for one that isn't declared or a
        time limit that doesn't hold.
        """
        cursor = psycopg.Cursor(connection)
        [(pid, role)] = cursor.execute(WHO, prepare=False).fetchall()
        is_pooled = pid != connection.info.backend_pid  # a pooler makes up what it tells its clients
        if is_pooled:
            connection.prepare_threshold = None
        if not self.limits:
            return
        in_effect = dict(cursor.execute(IN_EFFECT, [list(self.limits)], prepare=False))
        missing = {name: limit for name, limit in self.limits.items() if not 0 < in_effect[name] <= limit}
        if (is_pooled or missing) and not self.settings_dict["OPTIONS"]["pgbouncer"]:
            raise ImproperlyConfigured(UNDECLARED_POOLER)
        if missing:
            statements = "; ".join(f"ALTER ROLE {role} SET {name} = {limit}" for name, limit in missing.items())
            raise ImproperlyConfigured(f"Behind a pooler PostgreSQL must set the time limits: {statements}.")

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        if self.pool and not hasattr(_thread, "end"):
            _thread.end = EndOfThread(self)
        return super().get_new_connection(conn_params)

    def close_if_unusable_or_obsolete(self) -> None:
        """Return this thread's connection to the pool if it is dead. Django calls this before and after a request."""
        if self.pool and self.connection is not None and hung_up(self.connection):
            self.close()
        super().close_if_unusable_or_obsolete()

    @property
    def pool(self) -> Pool | None:
        options = self.settings_dict["OPTIONS"].get("pool")
        if self.alias == NO_DB_ALIAS or not options:
            return None
        pools: dict[str, Pool] = self._connection_pools  # type: ignore[attr-defined]  # not in the stubs
        if self.alias not in pools:
            made = Pool(
                kwargs=self.get_connection_params() | {"autocommit": True},
                connection_class=Connection,
                open=False,
                configure=self.configure,
                **options,
            )
            pools.setdefault(self.alias, made)  # of several threads that come first, one does
        return pools[self.alias]
