"""Proofs that whoever sends a token holds the key that it is bound to (DPoP, RFC 9449)."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from typing import Any

from urllib3.exceptions import LocationParseError
from urllib3.util import Url, parse_url

from airflow_oauth_provider.oauth2.assertions import SigningKey, encode_base64url, load_private_key

#: The ``token_type`` of tokens that are bound to a key, and the scheme by which they are sent.
TOKEN_TYPE = "DPoP"  # noqa: S105 - the name of a type
#: The header field that carries a proof.
HEADER = "DPoP"
#: The header field by which servers give their nonce.
NONCE_HEADER = "DPoP-Nonce"
#: The error that asks for another proof, with the server's nonce in it (sections 7.1 and 8).
USE_NONCE = "use_dpop_nonce"

# Section 8.1.
_NONCE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,4096}")
_CHALLENGE = re.compile(rf'\berror\s*=\s*"?{USE_NONCE}\b', re.IGNORECASE)
_DEFAULT_PORTS = {"http": 80, "https": 443}
#: The public members of a JWK by its type, in the order of RFC 7638 section 3.2.
_PUBLIC_MEMBERS = {"EC": ("crv", "kty", "x", "y"), "OKP": ("crv", "kty", "x"), "RSA": ("e", "kty", "n")}


class Prover:
    """Makes proofs with one key, and remembers the newest nonce of each server. Take it from :func:`get_prover`.

    The nonces of authorization servers and of APIs are kept apart, even where both are at one origin: each is good
    with its issuer only (section 9).

    One instance may be used by many threads; of two nonces that come at once, either may stay.

    :param key: a private key.
    :raises BadKeyError: when it cannot sign.
    """

    def __init__(self, key: SigningKey) -> None:
        self._key, self.algorithm = load_private_key(key)
        self._jwk = _public_jwk(self._key, self.algorithm)
        #: The hash of the public key by which servers know it (RFC 7638), and the value of ``dpop_jkt`` (section 10).
        self.thumbprint = encode_base64url(sha256(json.dumps(self._jwk, separators=(",", ":")).encode()).digest())
        self._nonces: dict[tuple[bool, str], str] = {}

    def __repr__(self) -> str:
        return f"<Prover {self.algorithm} {self.thumbprint}>"

    def proof(self, method: str, url: str, token: str | None = None) -> str:
        """Return a proof for one request, to be sent once (section 4.2).

        :param method: HTTP method.
        :param url: where the request goes.
        :param token: the access token that goes along to an API; None: the request is one for a token.
        """
        import jwt

        claims = {"jti": str(uuid.uuid4()), "htm": method, "htu": normalize_url(url), "iat": int(time.time())}
        nonce = self._nonces.get(_server(url, api=token is not None))
        if nonce is not None:
            claims["nonce"] = nonce
        if token is not None:
            claims["ath"] = encode_base64url(sha256(token.encode()).digest())
        header = {"typ": "dpop+jwt", "jwk": self._jwk}
        return jwt.encode(claims, self._key, algorithm=self.algorithm, headers=header)

    def take_nonce(self, url: str, headers: Mapping[str, str], *, api: bool) -> bool:
        """Remember the nonce of a response, whatever its status (section 8.2), and tell whether it brought one.

        :param url: where the request went.
        :param headers: of the response, with names in any case.
        :param api: whether it was an API that answered, and not an authorization server.
        """
        nonce = headers.get(NONCE_HEADER) or headers.get(NONCE_HEADER.lower()) or ""
        if not _NONCE.fullmatch(nonce):
            return False
        self._nonces[_server(url, api=api)] = nonce
        return True


@lru_cache(maxsize=32)
def get_prover(key: SigningKey) -> Prover:
    """Return what proves possession of ``key``: the same for the same key, so that its nonces serve the whole process.

    :raises BadKeyError: when the key cannot sign.
    """
    return Prover(key)


def normalize_url(url: str) -> str:
    """Return ``url`` as it stands in a proof: without query, fragment and credentials, and in normal form.

    The normal form (RFC 3986 sections 6.2.2 and 6.2.3) is what servers compare (section 4.3), and what is sent.
    """
    try:
        parts = parse_url(url)
    except LocationParseError:
        return url.partition("#")[0].partition("?")[0]
    port = None if parts.port == _DEFAULT_PORTS.get(parts.scheme or "") else parts.port
    return Url(parts.scheme, None, parts.host, port, parts.path or "/").url


def asks_for_nonce(status: int, challenge: str | None) -> bool:
    """Tell whether an API wants the request once more, with its nonce in the proof (sections 7.1 and 9).

    :param status: HTTP status.
    :param challenge: the header field ``WWW-Authenticate``, with one challenge or more.
    """
    return status == 401 and challenge is not None and _CHALLENGE.search(challenge) is not None


def _server(url: str, *, api: bool) -> tuple[bool, str]:
    return api, normalize_url(url).partition("://")[2].partition("/")[0]


def _public_jwk(key: Any, algorithm: str) -> dict[str, str]:
    from jwt.algorithms import get_default_algorithms

    members = get_default_algorithms()[algorithm].to_jwk(key.public_key(), as_dict=True)
    return {name: members[name] for name in _PUBLIC_MEMBERS[members["kty"]]}
