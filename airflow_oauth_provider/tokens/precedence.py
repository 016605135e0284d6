"""Which refresh token counts: the one that a person entered, or the one that grew from it by rotation."""

from __future__ import annotations

from dataclasses import replace

from airflow_oauth_provider.oauth2.token_response import TokenResponse
from airflow_oauth_provider.tokens.configuration import GrantConfiguration
from airflow_oauth_provider.tokens.json_members import LATEST_TIME
from airflow_oauth_provider.tokens.record import MAX_FINGERPRINTS, Record, fingerprint


def current(configuration: GrantConfiguration, stored: Record | None) -> Record:
    """Return the record to go on with.

    A refresh token whose fingerprint is not the stored one was entered later and wins, unless it is known to have
    been replaced: then it is the reader's copy of the connection that is old (a pod that still has last week's
    environment, a worker that read the connection just before a person changed it).
    """
    entered = fingerprint(configuration.entered.refresh_token) if configuration.rotates else None
    if stored is None:
        return _first_record(configuration, entered)
    if stored.issued_for not in (None, configuration.identity):
        # Somebody else's, and for another server perhaps: the connection has been changed since.
        stored = replace(stored, access_token=None, expires_in=None)
    before = stored.entered_fingerprint
    if entered is None or entered == before or stored.has_replaced(entered):
        return stored
    superseded = [known for known in (*stored.superseded, before) if known and known != entered]
    return Record(
        generation=stored.generation,
        entered_fingerprint=entered,
        refresh_token=configuration.entered.refresh_token,
        superseded=tuple(superseded[-MAX_FINGERPRINTS:]),
        spent=stored.spent if fingerprint(stored.refresh_token) == before else with_spent(stored),
        lease=stored.lease,
        history=stored.history,
    )


def _first_record(configuration: GrantConfiguration, entered_fingerprint: str | None) -> Record:
    entered, ends = configuration.entered, configuration.entered.expires_at
    return Record(
        entered_fingerprint=entered_fingerprint,
        refresh_token=entered.refresh_token if configuration.rotates else None,
        access_token=entered.access_token,
        expires_in=None if ends is None else min(max(ends, 0.0), LATEST_TIME),  # from issued_at, which is 0: the epoch
    )


def record_sign_in(base: Record, answer: TokenResponse, sent_at: float, actor: str = "") -> Record:
    """Return the record that begins with a person's sign-in.

    It follows ``base`` and keeps the fingerprint of what the connection still holds: that was entered before, so it
    must not win. Workers in the middle of a refresh see that the record has moved on, and give up their own tokens.

    :param base: what :func:`current` makes of the connection and its record.
    :param sent_at: seconds since the epoch when they were asked for.
    :param actor: who signed in, for the history.
    """
    return replace(base.follow(answer, sent_at), spent=with_spent(base)).with_event(sent_at, "signed_in", actor)


def with_spent(record: Record) -> tuple[str, ...]:
    """Return the fingerprints of entered refresh tokens that are of no more use, with that of ``record``.

    A person may go back to a token that was entered earlier and has never been spent. One that was spent must not
    come back: workers whose copies of the connection differ would revive each other's dead tokens for ever.
    """
    entered = record.entered_fingerprint
    return (*record.spent, *([entered] if entered and entered not in record.spent else []))[-MAX_FINGERPRINTS:]


def is_dead(configuration: GrantConfiguration, record: Record) -> bool:
    """Tell whether the refresh token of ``record`` is known to be of no more use to ``configuration``."""
    if record.dead is None:
        return False
    # The plain fingerprint is that of one that was revoked on purpose: no client can use it.
    token = record.refresh_token
    return record.dead.token_fingerprint in (fingerprint(token), configuration.fingerprint_for_client(token))


def has_moved_on(base: Record, stored: Record) -> bool:
    """Tell whether ``stored`` is newer than ``base``, so that what grew from ``base`` must not be written over it.

    :param base: the record that a refresh began from.
    :param stored: what the store holds now.
    """
    if stored.generation > base.generation:
        return True
    entered = stored.entered_fingerprint
    # Of another sign-in, unless of an earlier one: a person may also have removed the record and begun a new one, which
    # counts from zero and knows nothing of the old sign-in.
    return entered != base.entered_fingerprint and entered not in base.superseded
