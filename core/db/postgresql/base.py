"""Django's PostgreSQL backend, with connections that wait for no answer for ever, and a pool that notices at no cost
when they have died.
"""

import re
import select
import threading
from collections import OrderedDict
from collections.abc import Mapping
from functools import lru_cache
from itertools import count
from time import monotonic
from typing import Any, TypeVar

import psycopg
from django.db.backends.base.base import NO_DB_ALIAS
from django.db.backends.postgresql import base
from psycopg.abc import PQGen
from psycopg.adapt import Transformer
from psycopg.generators import execute as results
from psycopg.pq import ExecStatus, Format, TransactionStatus
from psycopg.pq.abc import PGresult
from psycopg_pool import ConnectionPool, PoolTimeout

T = TypeVar("T")


class Connection(psycopg.Connection[Any]):
    """Gives a server up that has fallen silent, as a frozen host does, whose sockets stay open and whose timeouts stand
    still; and one that takes no writes any more, as after a failover. Then no other connection made before is tried.
    """

    patience: float | None = None  # seconds for a statement; None: as long as it takes
    given_up_at = 0.0  # when that last happened
    PREPARED_MAX = 100  # statements, those used last

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.made_at = monotonic()
        self._statements: OrderedDict[str, Prepared] = OrderedDict()

    def fetch_prepared(self, statement: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Every row of a statement, outside a transaction, prepared at its first use: what a cursor does, without what
        it does anew each time. Parameters go as text, of the type that the statement says.

        Raises psycopg's exceptions.
        """
        text, names = numbered(statement)
        values = [None if (value := parameters[name]) is None else str(value).encode() for name in names]
        with self.lock:
            try:
                return self._rows(text, values)
            except psycopg.errors.InvalidSqlStatementName:  # psycopg lets all of them go after a rollback
                del self._statements[text]
            except psycopg.errors.FeatureNotSupported:  # a migration has changed its columns
                self._let_go(self._statements.pop(text))
            return self._rows(text, values)

    def _rows(self, text: str, values: list[bytes | None]) -> list[tuple[Any, ...]]:
        prepared = self._statements.get(text) or self._prepare(text)
        self._statements.move_to_end(text)
        self.pgconn.send_query_prepared(prepared.name, values, result_format=Format.BINARY)
        return prepared.rows(self._result())

    def _prepare(self, text: str) -> "Prepared":
        if len(self._statements) >= self.PREPARED_MAX:
            _, oldest = self._statements.popitem(last=False)
            self._let_go(oldest)
        made = Prepared(self, b"onehorizon_%d" % next(_numbers))
        self.pgconn.send_prepare(made.name, text.encode())
        self._result()
        self._statements[text] = made
        return made

    def _let_go(self, prepared: "Prepared") -> None:
        try:
            self.pgconn.send_query_params(b"DEALLOCATE " + prepared.name, None)
            self._result()
        except psycopg.errors.InvalidSqlStatementName:
            pass  # gone already

    def _result(self) -> PGresult:
        result: PGresult = self.wait(results(self.pgconn))[-1]
        if result.status not in (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK):
            raise self._told(psycopg.errors.error_from_result(result, encoding="utf-8"))
        return result

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        try:
            return super().wait(gen, interval, self.patience if timeout is None else timeout)
        except psycopg.OperationalError:
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                self._give_up()
            raise
        except psycopg.errors.ReadOnlySqlTransaction as error:
            raise self._told(error) from error

    def _told(self, error: psycopg.Error) -> psycopg.Error:
        """An error of the server's, as what it means: one that takes no writes is none to talk to."""
        if not isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
            return error
        self._give_up()
        return psycopg.OperationalError(*error.args)

    def _give_up(self) -> None:
        Connection.given_up_at = monotonic()
        self.close()


class Prepared:
    """A statement that a connection's server keeps, and how to read its rows."""

    def __init__(self, connection: Connection, name: bytes) -> None:
        self.name = name
        self._reader = Transformer(connection)

    def rows(self, result: PGresult) -> list[tuple[Any, ...]]:
        self._reader.set_pgresult(result)
        return self._reader.load_rows(0, result.ntuples, tuple)


_numbers = count()


@lru_cache(maxsize=1024)
def numbered(statement: str) -> tuple[str, list[str]]:
    """A statement whose parameters are `%(name)s`, with `$1` and so on in their place, and their names in order."""
    names: list[str] = []

    def number(found: re.Match[str]) -> str:
        if found[0] == "%%":
            return "%"
        if found[1] not in names:
            names.append(found[1])
        return f"${names.index(found[1]) + 1}"

    return re.sub(r"%%|%\((\w+)\)s", number, statement), names


class Pool(ConnectionPool[Connection]):
    """Hands out no connection whose server has hung up, and lets no requests queue for a database that is away.

    After one of them has waited in vain for `timeout` seconds, the others wait `IMPATIENT`, until one is served.
    """

    IMPATIENT = 0.1
    away = False

    def getconn(self, timeout: float | None = None) -> Connection:
        if timeout is None:
            timeout = self.IMPATIENT if self.away else self.timeout
        deadline = monotonic() + timeout
        try:
            connection = super().getconn(timeout)
            while hung_up(connection):
                connection.close()
                self.putconn(connection)  # which replaces it
                connection = super().getconn(deadline - monotonic())
        except PoolTimeout:
            self.away = True
            raise
        self.away = False
        return connection


def hung_up(connection: Connection) -> bool:
    """Whether the server has said something unasked: that is its farewell. A look at the socket, no round trip.

    Where another connection has given it up since, this one is not tried.

    The rare other thing it may say, such as a changed parameter, costs a live connection, which is replaced too.
    """
    if connection.closed or connection.made_at < Connection.given_up_at:
        return True
    socket = select.poll()
    socket.register(connection.fileno(), select.POLLIN)
    return bool(socket.poll(0))


class EndOfThread:
    """Goes with its thread, of which granian ends those that are idle, and gives back what the thread has kept."""

    def __init__(self, database: "DatabaseWrapper") -> None:
        self.database = database

    def __del__(self) -> None:
        connection, self.database.connection = self.database.connection, None
        if connection is not None and connection._pool is not None:
            connection._pool.putconn(connection)


_thread = threading.local()


class DatabaseWrapper(base.DatabaseWrapper):
    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        if self.pool and not hasattr(_thread, "end"):
            _thread.end = EndOfThread(self)
        return super().get_new_connection(conn_params)

    def close_if_unusable_or_obsolete(self) -> None:
        """Before each request and after it: a connection that this thread has kept is given back once it is dead."""
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
                configure=self._configure_connection,  # type: ignore[attr-defined]
                **options,
            )
            pools.setdefault(self.alias, made)  # of several threads that come first, one does
        return pools[self.alias]
