"""Signed JSON Web Tokens by which a client proves who it is, or whom it acts for (RFC 7523); and keys that sign."""

from __future__ import annotations

import json
import re
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

#: Seconds that an assertion is good for: it is made for one request, and clocks differ.
LIFETIME = 300

_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
# Members of a JWK that are strings.
_JWK_TEXTS = ("kty", "kid", "alg", "use", "crv", "d")
_BY_CURVE = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512", "secp256k1": "ES256K"}


class BadKeyError(ValueError):
    """A key that cannot sign; the message shows nothing of it."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """What signs.

    :param material: a private key as PEM (perhaps with its certificate) or as JWK.
    :param key_id: how the server knows it (``kid``); empty: as a JWK says itself, else none.
    :param algorithm: JWS algorithm; empty: what fits the key.
    """

    material: str = field(repr=False)
    key_id: str = ""
    algorithm: str = ""

    def check(self) -> None:
        """Raise :class:`BadKeyError` unless it can sign."""
        _load(self)


def encode_base64url(value: bytes) -> str:
    """Return ``value`` in base64url without padding (RFC 7515 section 2)."""
    return urlsafe_b64encode(value).rstrip(b"=").decode("ascii")


def make_claims(issuer: str, subject: str, audience: str, more: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the claims of RFC 7523 section 3. New ones for each attempt: a server may take a ``jti`` once only.

    :param issuer: who says so.
    :param subject: who it is about.
    :param audience: the authorization server.
    :param more: further claims, which win.
    """
    now = int(time.time())
    own = {"iss": issuer, "sub": subject, "aud": audience, "iat": now, "exp": now + LIFETIME, "jti": str(uuid.uuid4())}
    return {**own, **(more or {})}


def sign(payload: Mapping[str, Any], key: SigningKey) -> str:
    """Return ``payload`` as a JWT signed by a private key.

    :raises BadKeyError: when the key cannot sign.
    """
    import jwt

    usable, algorithm, headers = _load(key)
    return jwt.encode(dict(payload), usable, algorithm=algorithm, headers=headers)


def load_private_key(key: SigningKey) -> tuple[Any, str]:
    """Return the private key, as ``cryptography`` has it, and its JWS algorithm.

    :raises BadKeyError: when the key cannot sign.
    """
    usable, algorithm, _ = _load(key)
    return usable, algorithm


def sign_with_secret(payload: Mapping[str, Any], secret: str) -> str:
    """Return ``payload`` as a JWT with a MAC by the client's secret (``client_secret_jwt``)."""
    import jwt

    return jwt.encode(dict(payload), secret, algorithm="HS256")


@lru_cache(maxsize=32)
def _load(key: SigningKey) -> tuple[Any, str, dict[str, Any]]:
    """Return the key, its algorithm and the JOSE header. Remembered: reading an RSA key takes milliseconds."""
    import jwt
    from cryptography.exceptions import UnsupportedAlgorithm

    text = key.material.strip()
    try:
        loaded, named, headers = _from_jwk(text) if text.startswith("{") else _from_pem(text)
        algorithm = key.algorithm or named or _choose_algorithm(loaded)
        if key.key_id:
            headers["kid"] = key.key_id
        jwt.encode({}, loaded, algorithm=algorithm)
    except BadKeyError:
        raise
    except (
        ValueError,
        TypeError,
        KeyError,
        NotImplementedError,
        RecursionError,
        UnsupportedAlgorithm,
        jwt.PyJWTError,
    ) as error:
        # Their messages may quote the key.
        raise BadKeyError(f"cannot sign ({type(error).__name__})") from None
    return loaded, algorithm, headers


def _from_jwk(text: str) -> tuple[Any, str, dict[str, Any]]:
    import jwt

    members = json.loads(text)
    if any(not isinstance(members.get(name, ""), str) for name in _JWK_TEXTS):
        raise BadKeyError(f"is a JWK of which one of {', '.join(_JWK_TEXTS)} is no text (RFC 7517 section 4)")
    if members.get("kty") == "oct":
        raise BadKeyError("is symmetric, a secret that the server would have to share")
    if "d" not in members:
        raise BadKeyError("is a JWK without its private part")
    loaded = jwt.PyJWK(members, algorithm=members.get("alg") or None)
    headers = {"kid": members["kid"]} if members.get("kid") else {}
    return loaded.key, members.get("alg") or "", headers


def _from_pem(text: str) -> tuple[Any, str, dict[str, Any]]:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    if "\\n" in text and "\n" not in text:
        text = text.replace("\\n", "\n")  # as a form of one line or an environment variable has it
    headers: dict[str, Any] = {}
    certificate = _CERTIFICATE.search(text)
    if certificate:
        headers = _thumbprints(certificate[0])
        text = _CERTIFICATE.sub("", text)
    return load_pem_private_key(text.strip().encode(), password=None), "", headers


def _thumbprints(certificate: str) -> dict[str, Any]:
    """Return how Microsoft and others know a key: by its certificate (RFC 7515 sections 4.1.7 and 4.1.8)."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509 import load_pem_x509_certificate

    loaded = load_pem_x509_certificate(certificate.encode())
    marks = {"x5t": hashes.SHA1(), "x5t#S256": hashes.SHA256()}  # noqa: S303 - the RFC's own, and no signature
    return {name: encode_base64url(loaded.fingerprint(algorithm)) for name, algorithm in marks.items()}


def _choose_algorithm(key: Any) -> str:
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

    if isinstance(key, rsa.RSAPrivateKey):
        return "RS256"
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _BY_CURVE:
        return _BY_CURVE[key.curve.name]
    if isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey):
        return "EdDSA"
    raise BadKeyError("is of a kind that signs no JWT: use RSA, an elliptic curve of NIST, or Ed25519")
