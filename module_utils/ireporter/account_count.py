"""How many user accounts a database has. Table names of the product are not public, so the statement is the operator's own (R01)."""

from __future__ import annotations

import psycopg

from .database_connection import Address, Connection
from .errors import MigrationError


def count_accounts(session: Connection, statement: str) -> int:
    """The one number that ``statement`` gives; from then on the session cannot write.

    :param session: with the search path of the database, as anybody's session has it: the statement is written for that.
    :raises MigrationError: it fails, or does not give one number (check ``accounts-query``).
    """
    try:
        session.execute("SET default_transaction_read_only = on")
        row = session.execute(statement.encode()).fetchone()
        return int(row[0]) if row is not None else 0
    except (psycopg.Error, TypeError, ValueError) as error:
        raise MigrationError(
            f"The accounts_query gives no number: {' '.join(str(error).split())}",
            check="accounts-query",
            action="Correct accounts_query in the inventory, then run again",
        ) from error


def accounts_of(address: Address, statement: str | None) -> int | None:
    """The same of a database, ``None`` where nobody said how accounts are counted.

    :raises MigrationError: as :func:`count_accounts`.
    """
    if statement is None:
        return None
    with psycopg.connect(address.conninfo, autocommit=True) as session:
        return count_accounts(session, statement)
