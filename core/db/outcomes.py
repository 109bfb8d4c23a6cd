"""Learn whether a transaction was committed if the connection was lost before the answer to COMMIT arrived.

On SQLite that can't happen: there a transaction that raised was not committed.
"""

from django.db import DataError, OperationalError, connection


def transaction_id() -> str | None:
    """Return the id of the current transaction on PostgreSQL. Call it in a transaction."""
    if connection.vendor != "postgresql":
        return None
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_current_xact_id()::text")
        [value] = cursor.fetchone()
    return str(value)


def was_committed(transaction_id: str) -> bool:
    """Return whether the transaction with this id was committed. Raise `OperationalError` if it has not ended yet."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_xact_status(%s::xid8)", [transaction_id])
            [status] = cursor.fetchone()
    except DataError:  # a promoted standby has not received it
        return False
    if status == "in progress":
        raise OperationalError(f"transaction {transaction_id} has not ended yet")
    return bool(status == "committed")
