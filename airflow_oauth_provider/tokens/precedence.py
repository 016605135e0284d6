"""Which refresh token counts: the one that a person entered, or the one that grew from it by rotation."""

from __future__ import annotations

from dataclasses import replace

from airflow_oauth_provider.oauth2.token_response import TokenResponse
from airflow_oauth_provider.tokens.configuration import GrantConfiguration
from airflow_oauth_provider.tokens.record import Record, fingerprint

#: How many entered refresh tokens are remembered as replaced.
MAX_SUPERSEDED = 50


def current(account: GrantConfiguration, stored: Record | None) -> Record:
    """Return the record to go on with.

    A refresh token whose fingerprint is not the stored one was entered later and wins, unless it is known to have
    been replaced: then it is the reader's copy of the connection that is old (a pod that still has last week's
    environment, a worker that read the connection just before a person changed it).

    :param account: the connection as just read.
    :param stored: the record as just read.
    """
    entered = account.entered
    mark = fingerprint(entered.refresh_token) if account.rotates else None
    if stored is None:
        return Record(
            entered_fingerprint=mark,
            refresh_token=entered.refresh_token if account.rotates else None,
            access_token=entered.access_token,
            expires_in=entered.expires_at,  # counted from issued_at, which is 0: the epoch
        )
    if stored.issued_for not in (None, account.identity):
        # Somebody else's, and for another server perhaps: the connection has been changed since.
        stored = replace(stored, access_token=None, expires_in=None)
    if mark is None or mark == stored.entered_fingerprint or stored.has_replaced(mark):
        return stored
    old_mark = stored.entered_fingerprint
    superseded = [known for known in (*stored.superseded, old_mark) if known and known != mark]
    return Record(
        generation=stored.generation,
        entered_fingerprint=mark,
        refresh_token=entered.refresh_token,
        superseded=tuple(superseded[-MAX_SUPERSEDED:]),
        used_up=stored.used_up if fingerprint(stored.refresh_token) == old_mark else with_used_up(stored),
        lease=stored.lease,
    )


def signed_in(base: Record, answer: TokenResponse, sent_at: float) -> Record:
    """Return the record that begins with a person's sign-in.

    It follows ``base``, and takes the mark of what the connection still holds along: that was entered before, so it
    must not win. Workers in the middle of a refresh see that the record has moved on, and let their tokens go.

    :param base: what :func:`current` makes of the connection and its record.
    :param answer: the tokens.
    :param sent_at: seconds since the epoch when they were asked for.
    """
    lifetime = answer.refresh_expires_in
    return Record(
        generation=base.generation + 1,
        entered_fingerprint=base.entered_fingerprint,
        superseded=base.superseded,
        used_up=with_used_up(base),
        access_token=answer.access_token,
        refresh_token=answer.refresh_token,
        token_type=answer.token_type,
        scope=answer.scope,
        issued_at=sent_at,
        expires_in=answer.expires_in,
        refresh_expires_at=None if lifetime is None else sent_at + lifetime,
        response=dict(answer.others),
    )


def with_used_up(record: Record) -> tuple[str, ...]:
    """Return the marks of entered refresh tokens that are of no more use, with that of ``record``.

    A person may go back to a token that was entered earlier and has never been spent. One that was spent must not
    come back: workers whose copies of the connection differ would revive each other's dead tokens for ever.
    """
    mark = record.entered_fingerprint
    return (*record.used_up, *([mark] if mark and mark not in record.used_up else []))[-MAX_SUPERSEDED:]


def is_dead(account: GrantConfiguration, record: Record) -> bool:
    """Tell whether the refresh token of ``record`` is known to be of no more use to ``account``."""
    if record.dead is None:
        return False
    # The plain mark is that of one that was revoked on purpose: no client can use it.
    marks = fingerprint(record.refresh_token), account.mark_of(record.refresh_token)
    return record.dead.token_fingerprint in marks


def has_moved_on(base: Record, stored: Record) -> bool:
    """Tell whether ``stored`` is newer than ``base``, so that what grew from ``base`` must not be written over it.

    :param base: the record that a refresh began from.
    :param stored: what the store holds now.
    """
    if stored.generation > base.generation:
        return True
    mark = stored.entered_fingerprint
    # Of another sign-in, unless of an earlier one: a person may also have removed the record and begun a new one, which
    # counts from zero and knows nothing of the old sign-in.
    return mark != base.entered_fingerprint and mark not in base.superseded
