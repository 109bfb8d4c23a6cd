"""Django's SQLite backend with files that only their owner can read and write, whatever the umask."""

import os
import sqlite3
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.db.backends.sqlite3 import base

from core.db import contention


class Cursor(base.SQLiteCursorWrapper):
    """A cursor that reports a timeout for the write lock to `core.db.contention`."""

    def execute(self, query: str, params: Any = None) -> Any:
        try:
            return super().execute(query, params)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
                contention.report_timeout(contention.DATABASE)
            raise


class DatabaseWrapper(base.DatabaseWrapper):
    lock_timeout: float | None = None  # seconds to wait for the write lock; set in servers, overrides the settings

    def get_connection_params(self) -> dict[str, Any]:
        params: dict[str, Any] = super().get_connection_params()
        return params if self.lock_timeout is None else params | {"timeout": self.lock_timeout}

    def create_cursor(self, name: str | None = None) -> Any:
        return self.connection.cursor(factory=Cursor)

    def _start_transaction_under_autocommit(self) -> None:
        """Begin a transaction, which takes the write lock (`transaction_mode` is IMMEDIATE)."""
        contention.about_to_lock(contention.DATABASE)
        super()._start_transaction_under_autocommit()  # type: ignore[misc]  # not in the stubs

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        # Only the owner can change the permissions. SQLite itself reports a file that it can't open.
        with suppress(OSError):
            _make_private(Path(conn_params["database"]))
        return super().get_new_connection(conn_params)


def _make_private(file: Path) -> None:
    """Create the database's file, if it is missing, and let only its owner read and write all its files.

    SQLite gives the permissions of the database's file to the files that it creates next to it. The file must not be
    opened here: closing it would end the locks of this process's other connections. A hard link makes the creation
    atomic.
    """
    if not file.exists():
        descriptor, new = tempfile.mkstemp(dir=file.parent)
        os.close(descriptor)
        try:
            with suppress(FileExistsError):
                file.hardlink_to(new)
        finally:
            Path(new).unlink()
    for path in (file, file.with_name(f"{file.name}-wal"), file.with_name(f"{file.name}-shm")):
        with suppress(FileNotFoundError):
            path.chmod(0o600)
