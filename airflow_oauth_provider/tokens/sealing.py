"""Encryption with keys made from secrets that whoever may read has anyway, so that no key has to be kept.

What goes into the fallback store is encrypted with the refresh token that was spent. It stands in the record that the
store still has. So every worker that can read the record can recover the tokens, and nobody else can: the server does
not take a spent token, and whoever finds the variable or the file has no key.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from airflow_oauth_provider.exceptions import StoreUnavailable
from airflow_oauth_provider.tokens.record import Record, fingerprint


class DamagedError(ValueError):
    """A key fits, but what it should open was changed or cut off."""


def cipher(secret: str, purpose: bytes) -> Any:
    """Return the Fernet of ``secret`` for one purpose.

    HKDF (RFC 5869) and no slow key derivation: the secrets are random ones of machines (RFC 6749 section 10.10), not
    words that people think of, and a read must not take long.

    :param secret: what both sides know.
    :param purpose: keeps the keys apart that are made of one secret.
    """
    from cryptography.fernet import Fernet
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose).derive(secret.encode())
    return Fernet(base64.urlsafe_b64encode(derived))


def decrypt(fernet: Any, ciphertext: str) -> bytes | None:
    """Return what ``fernet`` makes of ``ciphertext``; None where it was not encrypted with that key."""
    from cryptography.fernet import InvalidToken

    try:
        plain: bytes = fernet.decrypt(ciphertext.encode())
    except InvalidToken:
        return None
    return plain


#: Secrets by name. Of several under one name the first one seals, and all are tried to open.
Secrets = Sequence[tuple[str, str]]


def lock(text: str, secrets: Secrets, purpose: bytes) -> tuple[str, dict[str, str]]:
    """Encrypt ``text`` so that each of several secrets opens it by itself.

    :param secrets: at least one.
    :return: the ciphertext, and its key wrapped for each name among the secrets. The key is new each time: who once
        had a secret that was changed since can open nothing of later.
    """
    from cryptography.fernet import Fernet

    data_key = Fernet.generate_key()
    keys = {name: cipher(secret, purpose).encrypt(data_key).decode() for name, secret in _first(secrets).items()}
    return Fernet(data_key).encrypt(text.encode()).decode(), keys


def unlock(ciphertext: str, keys: dict[str, str], secrets: Secrets, purpose: bytes) -> str | None:
    """Return the text that :func:`lock` has hidden; None where none of ``secrets`` opens it.

    :raises DamagedError: one of them does, but the ciphertext is not as it was.
    """
    from cryptography.fernet import Fernet

    for name, secret in secrets:
        data_key = decrypt(cipher(secret, purpose), keys[name]) if name in keys else None
        if data_key is None:
            continue
        plain = decrypt(Fernet(data_key), ciphertext)
        if plain is None:
            raise DamagedError("its ciphertext was changed")
        return plain.decode()
    return None


def is_locked_for(keys: dict[str, str], secrets: Secrets, purpose: bytes) -> bool:
    """Tell whether ``keys`` are wrapped for just these secrets, as :func:`lock` would wrap them."""
    first = _first(secrets)
    return keys.keys() == first.keys() and all(
        decrypt(cipher(secret, purpose), keys[name]) is not None for name, secret in first.items()
    )


def _first(secrets: Secrets) -> dict[str, str]:
    first: dict[str, str] = {}
    for name, secret in secrets:
        first.setdefault(name, secret)
    return first


#: "token" in the name makes Airflow show a variable of this kind as ``***``.
KEY_PREFIX = "oauth2_token_fallback__"
_FALLBACK_PURPOSE = b"airflow-oauth-provider: tokens in the fallback store"


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
    return str(cipher(spent, _FALLBACK_PURPOSE).encrypt(record.to_json().encode()).decode())


def unseal(text: str, spent: str) -> Record | None:
    """Return the record in ``text``; None where ``text`` was not sealed with ``spent``, or is no record."""
    plain = decrypt(cipher(spent, _FALLBACK_PURPOSE), text)
    if plain is None:
        return None
    try:
        return Record.from_json(plain.decode())
    except ValueError:
        return None
