"""Read from a connection what a client proves itself with, and what its grant takes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import unquote

from airflow_oauth_provider.connection.extra import Extra
from airflow_oauth_provider.connection.fields import FIELDS
from airflow_oauth_provider.exceptions import ConfigurationError
from airflow_oauth_provider.oauth2 import dpop
from airflow_oauth_provider.oauth2.assertions import BadKeyError, SigningKey
from airflow_oauth_provider.oauth2.grants import ACCESS_TOKEN_TYPE, GrantInputs
from airflow_oauth_provider.oauth2.redaction import is_public_header, is_secret_name

_BY_SECRET = frozenset({"client_secret_basic", "client_secret_post", "client_secret_jwt"})
_BY_CERTIFICATE = frozenset({"tls_client_auth", "self_signed_tls_client_auth"})

#: The secrets that a connection's extra can hold.
SECRET_KEYS = tuple(field.key for field in FIELDS if field.secret and not field.kept)
# The private members of a JWK (RFC 7518 section 6, RFC 8037 section 2).
_PRIVATE_MEMBERS = ("d", "p", "q", "dp", "dq", "qi", "k")
# What goes against a token that is bound to a key, but for these values.
_AGAINST_DPOP = {
    "callback": (),
    "in_query": (),
    "header_name": ("authorization",),
    "header_prefix": ("dpop",),
    "accepted_types": ("dpop",),
}
# Characters: what is shorter is no secret, and as a mask it would tear words of the log apart.
_SHORTEST = 6


def find_secrets(extra: Extra) -> list[str]:
    """Return the secrets that the extra holds, for masking."""
    values = [extra.get(key) for key in SECRET_KEYS]
    for key in ("extra_params", "extra_headers"):
        values += [value for name, value in (extra.get(key) or {}).items() if is_secret_name(name)]
    for key in ("private_key", "dpop_private_key"):
        values += find_key_secrets(extra.get(key))[1:]  # the key itself is among them
    return [*(value for value in values if value), *_api_secrets(extra)]


def find_private_headers(headers: Mapping[str, Any]) -> dict[str, str]:
    """Return those of a connection's API headers that may be secret: all but the trivially public ones."""
    return {str(name): str(value) for name, value in headers.items() if not is_public_header(str(name))}


def _api_secrets(extra: Extra) -> list[str]:
    """Return what may be secret in the API's headers and in the addresses of proxies."""
    values: list[str] = []
    for value in find_private_headers(extra.get("headers") or {}).values():
        values += [value, value.rpartition(" ")[2]]
    for proxy in (extra.get("proxies") or {}).values():
        # By hand: what a person mistypes is no reason to fail here, nor to show it.
        userinfo = str(proxy).rpartition("@")[0].rpartition("/")[2]
        password = userinfo.partition(":")[2] or userinfo
        values += [password, unquote(password)]
    return [value for value in dict.fromkeys(values) if len(value) >= _SHORTEST]


def find_key_secrets(key: object) -> list[str]:
    """Return what is secret in a private key: itself if it is text, then the private members of a JWK."""
    if isinstance(key, str):
        with suppress(ValueError):
            return [key, *find_key_secrets(json.loads(key))]
        return [key]
    members = key if isinstance(key, dict) else {}
    return [value for name in _PRIVATE_MEMBERS if isinstance(value := members.get(name), str) and value]


def find_sealing_secrets(extra: Extra, secret: str | None) -> tuple[tuple[str, str], ...]:
    """Return the secrets that keys are made of to seal what is stored, by name.

    A person's password is none of them: in whatever it sealed it could be guessed at leisure.
    """
    named = [("client_secret", secret), *((key, extra.get(key)) for key in ("refresh_token", "private_key"))]
    return tuple((name, value) for name, value in named if value)


def read_auth_method(extra: Extra, secret: str | None, place: str = "") -> str:
    """Return the client authentication, after a look whether it has what it needs.

    :param secret: the client secret, of the connection or its store.
    :param place: what the store is called, where it may hold the secret.
    :raises ConfigurationError: names what is missing.
    """
    method: str = extra.get("auth_method")
    if extra.get("grant_type") == "jwt_bearer" and not extra.is_set("auth_method") and not secret:
        return "none"  # the assertion says it all (RFC 7523 section 2.1)
    if method in _BY_SECRET and not secret:
        there = f" or under the key 'client_secret' in {place}" if place else ""
        raise ConfigurationError(
            f"auth_method {method!r} needs a client secret: enter it in the field 'password'{there}, or set "
            "auth_method to 'none' if the client was registered without one.",
            conn_id=extra.conn_id,
        )
    if method in _BY_CERTIFICATE and not extra.get("cert"):
        raise extra.error("cert", f"has to name the client certificate, for auth_method {method!r}")
    return method


def read_signing_key(extra: Extra, kept: Mapping[str, Any], method: str) -> SigningKey | None:
    """Return the key that signs assertions; None where nothing is to be signed.

    :param kept: what people keep beside the tokens in the store.
    :raises ConfigurationError: when there is none although it is needed, or when it cannot sign.
    """
    if method != "private_key_jwt" and extra.get("grant_type") != "jwt_bearer":
        return None
    material = _key_material(extra, kept, "private_key")
    if not material:
        raise extra.error("private_key", "has to be set, as PEM or JWK: the assertions are signed with it")
    key = SigningKey(material, extra.get("key_id") or "", extra.get("assertion_alg") or "")
    try:
        key.check()
    except BadKeyError as error:
        raise extra.error("private_key", f"has to be a private key as PEM or JWK; this one {error}") from None
    return key


def read_dpop_key(extra: Extra, kept: Mapping[str, Any]) -> SigningKey | None:
    """Return the key that tokens are bound to (RFC 9449); None where they are bearer tokens.

    :param kept: what people keep beside the tokens in the store.
    :raises ConfigurationError: when it cannot sign, or something else of the connection goes against it.
    """
    material = _key_material(extra, kept, "dpop_private_key")
    if not material:
        return None
    for name, harmless in _AGAINST_DPOP.items():
        given = extra.get(name) if extra.is_set(name) else ()
        values = given if isinstance(given, list | tuple) else [given]
        if any(value and value.lower() not in harmless for value in values):
            raise extra.error(
                name,
                "goes against dpop_private_key: a token that is bound to a key comes from the token endpoint with the "
                "type DPoP, and is sent as 'Authorization: DPoP …' (RFC 9449); take one of the two keys away",
            )
    key = SigningKey(material)
    try:
        dpop.get_prover(key)
    except BadKeyError as error:
        raise extra.error(
            "dpop_private_key",
            f"has to be a private key as PEM or JWK, of an elliptic curve of NIST, RSA or Ed25519; this one {error}",
        ) from None
    return key


def _key_material(extra: Extra, kept: Mapping[str, Any], name: str) -> str | None:
    """Return a private key of the connection, else of its store, where a JWK may be an object."""
    beside = kept.get(name)
    material: str | None = extra.get(name)
    return material or (json.dumps(beside) if isinstance(beside, dict) else beside if isinstance(beside, str) else None)


def read_assertion_audience(extra: Extra) -> str:
    """Return whom assertions are for; see :class:`~airflow_oauth_provider.oauth2.client.Client`."""
    entered: str = extra.get("assertion_audience") or ""
    if entered == "issuer" and not extra.get("issuer"):
        raise extra.error("assertion_audience", "needs the key 'issuer'")
    return "" if entered == "oauth_url" else entered


def read_grant_inputs(extra: Extra) -> GrantInputs:
    """Return what the connection's grant takes.

    :raises ConfigurationError: names the key that is missing.
    """
    grant = extra.get("grant_type")
    needed = {"password": ("username", "user_password"), "token_exchange": ("subject_token",)}
    for key in needed.get(grant, ()):
        if not extra.get(key):
            raise extra.error(key, f"has to be set for grant_type {grant!r}")
    return GrantInputs(
        username=extra.get("username") or "",
        password=extra.get("user_password") or "",
        issuer=extra.get("assertion_issuer") or "",
        subject=extra.get("assertion_subject") or "",
        claims=extra.get("assertion_claims") or {},
        subject_token=extra.get("subject_token") or "",
        subject_type=extra.get("subject_type") or ACCESS_TOKEN_TYPE,
        actor_token=extra.get("actor_token") or "",
        actor_type=extra.get("actor_type") or ACCESS_TOKEN_TYPE,
        requested_type=extra.get("requested_type") or "",
    )
