"""The parameters with which each grant asks for a token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_oauth_provider.oauth2 import assertions, client_auth
from airflow_oauth_provider.oauth2.client import Client
from airflow_oauth_provider.oauth2.discovery import assertion_audience

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105 - the name of a grant
#: What is exchanged where nothing else is said (RFC 8693 section 3).
ACCESS_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - the name of a type


@dataclass(frozen=True, slots=True)
class GrantOptions:
    """What goes with a grant when it is set.

    :param scope: space-delimited (RFC 6749 section 3.3).
    :param audience: whom the token is for, as Auth0 and RFC 8693 name it.
    :param resources: where the token is to be used, one or more URIs (RFC 8707 section 2).
    """

    scope: str = ""
    audience: str = ""
    resources: tuple[str, ...] = ()

    def parameters(self) -> list[tuple[str, str]]:
        """Return the options as form fields; ``resource`` is the one parameter that may stand more than once."""
        return [
            ("scope", self.scope),
            ("audience", self.audience),
            *(("resource", resource) for resource in self.resources),
        ]


@dataclass(frozen=True, slots=True)
class GrantInputs:
    """What goes with one grant only.

    :param username: whom ``password`` signs in.
    :param password: that person's password.
    :param issuer: who makes the assertion of ``jwt_bearer``; empty: the client.
    :param subject: whom it is about; empty: its issuer.
    :param claims: its further claims.
    :param subject_token: what ``token_exchange`` gives away.
    :param subject_type: the type of that, a URI.
    :param actor_token: who acts for the subject.
    :param actor_type: the type of that.
    :param requested_type: the type that is wanted back.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    issuer: str = ""
    subject: str = ""
    claims: Mapping[str, Any] = field(default_factory=dict, repr=False)
    subject_token: str = field(default="", repr=False)
    subject_type: str = ACCESS_TOKEN_TYPE
    actor_token: str = field(default="", repr=False)
    actor_type: str = ACCESS_TOKEN_TYPE
    requested_type: str = ""


def parameters(
    grant_type: str, client: Client, options: GrantOptions, inputs: GrantInputs, spendable: str
) -> list[tuple[str, str]]:
    """Return the parameters of one attempt.

    :param grant_type: as the connection names it.
    :param client: who asks.
    :param options: what goes with any grant.
    :param inputs: what goes with one grant only.
    :param spendable: the refresh token.
    :raises NotConnected: when they cannot be made.
    """
    match grant_type:
        case "client_credentials":  # in the name of the client itself (RFC 6749 section 4.4)
            own = [("grant_type", "client_credentials")]
        case "password":  # a person's own (RFC 6749 section 4.3), which OAuth 2.1 does away with
            own = [("grant_type", "password"), ("username", inputs.username), ("password", inputs.password)]
        case "jwt_bearer":
            own = [("grant_type", JWT_BEARER), ("assertion", _make_assertion(client, inputs))]
        case "token_exchange":  # for another token (RFC 8693 section 2.1)
            own = [
                ("grant_type", TOKEN_EXCHANGE),
                ("subject_token", inputs.subject_token),
                ("subject_token_type", inputs.subject_type),
                ("actor_token", inputs.actor_token),
                ("actor_token_type", inputs.actor_type if inputs.actor_token else ""),
                ("requested_token_type", inputs.requested_type),
            ]
        case _:  # RFC 6749 section 6
            own = [("grant_type", "refresh_token"), ("refresh_token", spendable)]
    return [*own, *options.parameters()]


def _make_assertion(client: Client, inputs: GrantInputs) -> str:
    """Return a signed assertion about a subject (RFC 7523 section 2.1), a new one for each attempt."""
    issuer = inputs.issuer or client.client_id
    claims = assertions.make_claims(issuer, inputs.subject or issuer, assertion_audience(client), inputs.claims)
    return client_auth.sign(client, claims, "grant_type 'jwt_bearer'")
