import re
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from time import monotonic, sleep
from typing import Any

import psycopg
from django.core.management.base import CommandError, CommandParser
from django.core.management.commands import migrate
from django.db import OperationalError, connections, transaction
from django.db.migrations import Migration

from core.db.postgresql.lock_waits import LockWatcher

LOCK_TIMEOUT = 500  # milliseconds; requests wait as long as that behind a migration that waits for its lock
LONGEST_PAUSE = 10  # seconds between two attempts
ADVISORY_LOCK = 0x6D696772617465  # one `migrate` at a time; "migrate" in ASCII

BACKEND_PID = "SELECT pg_backend_pid()"
# The role may have limits for requests, but building an index can take minutes. 0 is no limit.
SET_LIMITS = """
    SELECT set_config('lock_timeout', %s, false), set_config('statement_timeout', '0', false),
        set_config('idle_in_transaction_session_timeout', '0', false)
"""
RESET_LIMITS = "RESET lock_timeout; RESET statement_timeout; RESET idle_in_transaction_session_timeout"
# A statement that waited for this lock would delay CREATE INDEX CONCURRENTLY, which waits for all statements.
TRY_ADVISORY_LOCK = "SELECT pg_try_advisory_lock(%s)"
ADVISORY_UNLOCK = "SELECT pg_advisory_unlock(%s)"
ADVISORY_LOCK_HOLDER = """
    SELECT coalesce(max(pid)::text, 'unknown') FROM pg_locks JOIN pg_database ON pg_database.oid = database
    WHERE locktype = 'advisory' AND granted AND datname = current_database()
        AND classid::bigint << 32 | objid::bigint = %s
"""

REPEATED = (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)
GAVE_UP = "Gave up after waiting {} s {}. Run migrate again: it continues after the last migration that was applied."
POOLED = "Run migrate without the connection pooler: name PostgreSQL itself in DATABASE_URL. See docs/operations.md."


def _seconds(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ArgumentTypeError(f"{text!r} is not a number of seconds")
    return int(text)


@contextmanager
def limits_of_migrations(database: Any, report: Callable[[str], None]) -> Iterator[LockWatcher]:
    """Set the time limits of the session, and report what it waits for."""
    with database.cursor() as cursor:
        cursor.execute(BACKEND_PID)
        [pid] = cursor.fetchone()
        if pid != database.connection.info.backend_pid:  # a pooler reports an invented process id
            raise CommandError(POOLED)
        cursor.execute(SET_LIMITS, [str(LOCK_TIMEOUT)])  # not before: they would stay in the pooler's session
        watcher = LockWatcher(pid, report)
        try:
            with watcher.running(database.get_connection_params()):
                yield watcher
        finally:
            with suppress(OperationalError):  # if the connection was lost, its settings are gone
                cursor.execute(RESET_LIMITS)


class Command(migrate.Command):
    """Django's `migrate`. On PostgreSQL it never keeps requests waiting for a lock that it can't get.

    A statement such as ALTER TABLE waits until every transaction that uses the table ends, and all later requests wait
    behind it. So each lock has a short timeout. Then the migration is rolled back, and repeated after a pause.

    A migration and its record are one transaction on both databases, so that it can be repeated after any interruption.
    """

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--lock-wait",
            type=_seconds,
            default=600,
            metavar="SECONDS",
            help="How long a migration tries again while other transactions hold a lock that it needs. Default: 600.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        self.requested_verbosity: int = options["verbosity"]
        self.lock_wait: int = options["lock_wait"]
        self.database: Any = connections[options["database"]]
        self._forget_waits()
        if self.database.vendor != "postgresql" or options["plan"] or options["check_unapplied"]:
            self._run(options)
            return
        with (
            limits_of_migrations(self.database, lambda wait: self._write(f" Waiting {wait}.")) as watcher,
            self._only_migrate(),
        ):
            while not self._attempt(options):
                self._pause(watcher.latest)

    @contextmanager
    def _only_migrate(self) -> Iterator[None]:
        """Wait for other `migrate` commands of this database, and make others wait for this one."""
        with self.database.cursor() as cursor:
            cursor.execute(TRY_ADVISORY_LOCK, [ADVISORY_LOCK])
            while cursor.fetchone() == (False,):
                cursor.execute(ADVISORY_LOCK_HOLDER, [ADVISORY_LOCK])
                wait = f"for another migrate to end (process {cursor.fetchone()[0]})"
                self._write(f" Waiting {wait}.")
                self._pause(wait)
                cursor.execute(TRY_ADVISORY_LOCK, [ADVISORY_LOCK])
            self._forget_waits()
            try:
                yield
            finally:
                with suppress(OperationalError):  # if the connection was lost, its locks are gone
                    cursor.execute(ADVISORY_UNLOCK, [ADVISORY_LOCK])

    def _attempt(self, options: dict[str, Any]) -> bool:
        """Apply the migrations that are left, and return whether all locks were available."""
        try:
            self._run(options)
        except OperationalError as error:
            if not isinstance(error.__cause__, REPEATED):
                raise
            options["verbosity"] = 0  # the next attempt doesn't print the plan again
            return False
        return True

    def _run(self, options: dict[str, Any]) -> None:
        """Run Django's command. `self.migration` is the open transaction of a migration."""
        self.migration = ExitStack()
        with self.migration:
            super().handle(**options)

    def _forget_waits(self) -> None:
        """Begin the next wait with a short pause, and let it take `--lock-wait` seconds."""
        self.pause = 1
        self.deadline: float | None = None

    def _pause(self, wait: str) -> None:
        """Sleep before the next attempt, longer each time. Raise `CommandError` if it would be too late."""
        now = monotonic()
        if self.deadline is None:
            self.deadline = now + self.lock_wait
        if now + self.pause > self.deadline:
            self._write("\n")
            raise CommandError(GAVE_UP.format(self.lock_wait, wait))
        self._write(f" Trying again in {self.pause} s.\n")
        sleep(self.pause)
        self.pause = min(2 * self.pause, LONGEST_PAUSE)

    def migration_progress_callback(self, action: str, migration: Migration | None = None, fake: bool = False) -> None:
        """Begin or commit the transaction of a migration, and print the progress of each attempt.

        Django itself commits before it records a migration that creates an index or a foreign key. An interruption
        between the two would leave a migration that can't be applied again.
        """
        if migration and migration.atomic and action in ("apply_start", "unapply_start"):
            # Only outside of a transaction can SQLite disable these checks, which its schema editor requires.
            self.migration.enter_context(self.database.constraint_checks_disabled())
            self.migration.enter_context(transaction.atomic(using=self.database.alias))
        elif action in ("apply_success", "unapply_success"):
            self.migration.close()
            self._forget_waits()
        self.verbosity = self.requested_verbosity
        super().migration_progress_callback(action, migration, fake)

    def _write(self, text: str) -> None:
        """Continue the line "Applying <migration>...", which Django ends with " OK"."""
        if self.requested_verbosity > 0:
            self.stdout.write(text, ending="")
            self.stdout.flush()
