"""Splits SQL that this project wrote into a bundle, without ``psql``: a file's text can then be no command of its client (``\\!`` runs a shell)."""

from __future__ import annotations

from collections.abc import Iterator

_DATABASE = ':"DBNAME"'


def split_statements(text: str, database: str | None = None) -> Iterator[str]:
    """Statements without their semicolons; comment lines between them are left out.

    Quotes inside of quoted text are doubled, as :func:`database_connection.literal` and ``identifier`` write them.

    :param database: quoted name that takes the place of psql's variable ``:"DBNAME"`` outside of quoted text.
    :raises ValueError: a quote is not closed, or a statement not ended.
    """
    statement: list[str] = []
    position = 0
    while position < len(text):
        sign = text[position]
        if not statement and sign.isspace():
            position += 1
        elif not statement and text.startswith("--", position):
            end = text.find("\n", position)
            position = len(text) if end < 0 else end
        elif sign == ";":
            yield "".join(statement)
            statement.clear()
            position += 1
        elif database is not None and text.startswith(_DATABASE, position):
            statement.append(database)
            position += len(_DATABASE)
        elif sign in "'\"":
            end = text.find(sign, position + 1)
            if end < 0:
                raise ValueError("a quote is not closed")
            # A doubled quote inside ends one piece and begins the next: nothing between them.
            statement.append(text[position : end + 1])
            position = end + 1
        else:
            statement.append(sign)
            position += 1
    if statement:
        raise ValueError("the last statement is not ended")
