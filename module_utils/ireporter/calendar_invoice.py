"""R12: from which month on the new plan is invoiced."""

from __future__ import annotations

from datetime import date

LAST_DAY_OF_NOTICE = 25


def invoice_month(submitted: date) -> date:
    """The first day of the month whose invoice changes, for a plan change that reached the vendor on ``submitted``.

    Up to and including the 25th (Japan time): the following month. Later: one month later.
    """
    months_ahead = 1 if submitted.day <= LAST_DAY_OF_NOTICE else 2
    year, month = divmod(submitted.year * 12 + submitted.month - 1 + months_ahead, 12)
    return date(year, month + 1, 1)
