"""Notices a row of Airflow's database that is never what is read."""

from __future__ import annotations


class RowWatch:
    """What one worker has seen of the row that it writes to, from one refresh to the next.

    Whoever lost a race reads what the row holds now, and goes on from there. Twice the same version read and twice the
    same other version in the row cannot come from a race: each lease and each rotation is new.
    """

    def __init__(self) -> None:
        self._refused: tuple[str | None, str | None] | None = None

    def refused(self, if_version: str | None, held: str | None) -> bool:
        """Note that the row took nothing; tell whether something stands before it.

        :param if_version: the version that was read.
        :param held: the version that the row has.
        """
        again = self._refused == (if_version, held)
        self._refused = (if_version, held)
        return again

    def taken(self) -> None:
        """Note that the row took a record."""
        self._refused = None
