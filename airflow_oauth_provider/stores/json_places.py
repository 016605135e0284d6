"""Tokens that stand by themselves beside the record, where people and other programs enter and read them.

A JSON file and a key vault have this in common: refresh token and access token stand there in places of their
own, entered by a person, and read by programs that know nothing of the record. So a rotation writes both.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from airflow_oauth_provider.tokens.record import Record, fingerprint


@dataclass(frozen=True, slots=True)
class Plain:
    """What stands beside the record.

    :param refresh_token: None where there is none.
    :param access_token: None where there is none.
    :param expires_at: seconds since the epoch at which the access token ends, None where it does not say.
    """

    refresh_token: str | None = field(default=None, repr=False)
    access_token: str | None = field(default=None, repr=False)
    expires_at: float | None = None


def first_record(plain: Plain) -> Record | None:
    """Return what a store holds that nobody has written a record to yet: the tokens as entered, if any."""
    if not plain.refresh_token and not plain.access_token:
        return None
    return Record(
        entered_fingerprint=fingerprint(plain.refresh_token),
        refresh_token=plain.refresh_token,
        access_token=plain.access_token,
        expires_in=plain.expires_at,  # counted from issued_at, which is 0: the epoch
    )


def entered(plain: Plain, record: Record | None) -> str | None:
    """Return the refresh token beside the record if somebody else has put it there, None if we have."""
    if record is not None and plain.refresh_token == record.refresh_token:
        return None
    return plain.refresh_token


def may_replace(plain: Plain, old: Record | None, new: Record) -> bool:
    """Tell whether the refresh token beside the record is one that ``new`` replaces.

    One that a person has entered meanwhile stays: the next refresh begins with it.
    """
    if not new.refresh_token:
        return False
    ours = (None, "", new.refresh_token, old.refresh_token if old else None)
    return plain.refresh_token in ours or fingerprint(plain.refresh_token) in (
        new.entered_fingerprint,
        *new.superseded,
    )
