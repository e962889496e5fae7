"""The one error a migration raises on purpose."""

from __future__ import annotations


class MigrationError(Exception):
    """Something stands in the way, said so that a person at 3 a.m. knows what to do.

    :param happened: one sentence, past or present tense, naming the object concerned.
    :param check: rule id (``R01`` … ``R23``) or the name of one of our own checks (``freeze-proof``).
    :param action: what to do next, in the imperative.
    """

    def __init__(self, happened: str, *, check: str, action: str) -> None:
        self.happened = happened
        self.check = check
        self.action = action
        super().__init__(f"{happened.rstrip('.')} ({check}). {action.rstrip('.')}.")

    def as_result(self) -> dict[str, object]:
        """The fields every module returns beside ``failed`` and ``msg``."""
        return {"check": self.check, "action": self.action}
