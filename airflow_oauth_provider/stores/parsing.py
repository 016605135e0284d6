"""From the text that a store holds to a record, with its tokens masked before anybody can log them."""

from __future__ import annotations

import json

from airflow_oauth_provider.compat import masking
from airflow_oauth_provider.exceptions import StoreNotWritable
from airflow_oauth_provider.tokens.record import Record


def parse_record(text: str, where: str) -> Record:
    """Return the record that ``text`` holds.

    :param text: what the store holds.
    :param where: the place, for the error.
    :raises StoreNotWritable: it is no record. Nobody but a person can tell what else to do with it.
    """
    try:
        record = Record.from_json(text)
    except ValueError as error:
        raise not_a_record(where, error) from None
    mask_record(record)
    return record


def not_a_record(where: str, error: ValueError) -> StoreNotWritable:
    """Return the error for a place whose text is no record.

    :param where: the place.
    :param error: what is wrong with the text, without quoting it.
    """
    return StoreNotWritable(
        f"{where} does not hold a token record of this version ({error}). If nothing else uses it, "
        "remove it and enter a new refresh token in the connection."
    )


def mask_record(record: Record) -> None:
    """Hide the tokens of ``record`` in logs."""
    masking.mask_secret(record.access_token)
    masking.mask_secret(record.refresh_token)


def is_leased(text: str) -> bool:
    """Tell whether the record in ``text``, which this package has written just now, carries a lease."""
    return "lease" in json.loads(text)
