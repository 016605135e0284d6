"""Pages into a file: as they are, or their records."""

from __future__ import annotations

from typing import Any

from airflow_oauth_provider.http.output import OutputFile, OutputSpec
from airflow_oauth_provider.http.page import Page


class PageWriter:
    """Writes pages to an :class:`~airflow_oauth_provider.http.output.OutputFile`, and counts them.

    :param spec: where to.
    :param records_path: where a page's records are; None: the pages are written as they came.
    """

    def __init__(self, spec: OutputSpec, records_path: str | None = None) -> None:
        self._file = OutputFile(spec)
        self._records_path = records_path
        self._pages = 0
        self._records: int | None = None

    def open(self) -> None:
        """Begin."""
        self._file.open()

    def write(self, page: Page, records: list[Any] | None = None) -> int | None:
        """Add a page.

        :param records: what to write instead of what is in the page.
        :return: how many records it had; None where the pages are written as they came.
        :raises ApiError: when there are no records at the path, or one that JSON cannot hold.
        """
        if records is None and self._records_path is not None:
            records = page.records(self._records_path)
        self._pages += 1
        if records is None:
            self._file.write_page(page.source())
            return None
        try:
            self._file.write_records(records)
        except ValueError as error:
            raise page.error(f"has a record that cannot be written: {error}") from None
        self._records = (self._records or 0) + len(records)
        return len(records)

    def commit(self) -> dict[str, Any]:
        """Finish, and return what to tell of it."""
        size = self._file.size
        self._file.commit()
        return {"path": str(self._file.path), "pages": self._pages, "records": self._records, "bytes": size}

    def discard(self) -> None:
        """Leave nothing behind, unless it is finished."""
        self._file.discard()
