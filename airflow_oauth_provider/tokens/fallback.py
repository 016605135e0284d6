"""Sealing of tokens that their store did not take, for a fallback store.

The key comes from the refresh token that was spent. It stands in the record that the store still has, so every worker
that can read the record can recover the tokens, and nobody else: what lies in a variable or a file is of no use to
whoever finds it, and the authorization server does not take a spent token.
"""

from __future__ import annotations

from airflow_oauth_provider.exceptions import StoreNotWritable, StoreUnavailable
from airflow_oauth_provider.tokens.record import Record, fingerprint
from airflow_oauth_provider.tokens.sealing import cipher, decrypted

#: "token" in the name makes Airflow show a variable of this kind as ``***``.
KEY_PREFIX = "oauth2_token_fallback__"
_PURPOSE = b"airflow-oauth-provider: tokens in the fallback store"


def fallback_key(generation: int, spent: str) -> str:
    """Return the name under which the tokens of ``generation`` are kept.

    It comes from the record alone, as several connections may share one (in Vault, in a file), and each has to find
    what another one could not write.

    :param generation: of the record with the new tokens.
    :param spent: the refresh token that was spent for them.
    """
    return f"{KEY_PREFIX}{generation}_{fingerprint(spent) or ''}"


def seal(record: Record, spent: str) -> str:
    """Return ``record`` encrypted, so that only who knows ``spent`` can read it.

    :param record: the record with the new tokens.
    :param spent: the refresh token that was spent for them.
    :raises StoreUnavailable: there is no spent token to make a key from.
    """
    if not spent:
        raise StoreUnavailable("There is no spent refresh token with which to encrypt the new tokens.")
    return str(cipher(spent, _PURPOSE).encrypt(record.to_json().encode()).decode())


def unseal(text: str, spent: str) -> Record | None:
    """Return the record in ``text``; None where ``text`` was not sealed with ``spent``, or is no record."""
    if not spent:
        return None
    plain = decrypted(cipher(spent, _PURPOSE), text)
    if plain is None:
        return None
    try:
        return Record.from_json(plain.decode())
    except ValueError:
        return None


def does_not_open(conn_id: str, place: str) -> StoreNotWritable:
    """Return the error for an entry that cannot be read: its being there proves that the refresh token is spent.

    :param conn_id: the connection.
    :param place: the entry's name.
    """
    return StoreNotWritable(
        f"its newest tokens are in the fallback store, under {place!r}, but that entry does "
        "not open: it is damaged, or was written by a later version of this provider. The refresh token before them "
        "is spent, so nothing was sent. Restore the entry, or update the provider on this worker; else sign in again: "
        "enter a new refresh token.",
        conn_id=conn_id,
    )
