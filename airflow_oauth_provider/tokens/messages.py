"""The sentences that people read when something is wrong: what happened, and what to do."""

from __future__ import annotations

from airflow_oauth_provider import exceptions
from airflow_oauth_provider.exceptions import name_connection
from airflow_oauth_provider.oauth2 import errors
from airflow_oauth_provider.tokens.clock import show_time
from airflow_oauth_provider.tokens.configuration import GrantConfiguration
from airflow_oauth_provider.tokens.record import DeadGrant, Lease


def never_refreshed(conn_id: str, has_token: bool) -> str:
    """For ``refresh_when: never`` where a refresh is asked for."""
    if has_token:
        what = (
            ", so its access token is not refreshed. Enter another one, or set refresh_when to 'expired'. "
            "RefreshTokenOperator has no place in such a DAG."
        )
    else:
        what = ", and there is no usable access token. Enter an access token, or set refresh_when to 'expired'."
    return name_connection(conn_id, f"refresh_when is 'never'{what}")


def no_refresh_token(configuration: GrantConfiguration) -> str:
    """For a connection that has nothing to refresh with."""
    page = configuration.sign_in_page
    what = f"Sign in at {page}, enter one" if page else "Enter one"
    return name_connection(
        configuration.conn_id,
        "grant_type is 'refresh_token', but there is no refresh token, neither in the connection's 'refresh_token' nor "
        f"in its store. {what}, or set grant_type to 'client_credentials'.{configuration.hint}",
    )


def dead_grant(configuration: GrantConfiguration, dead: DeadGrant, description: str = "") -> str:
    """For a refresh token that the server has refused for good.

    :param description: what the server said beside the code.
    """
    said = f"{dead.error}: {description}" if description else dead.error
    hint = f" {dead.hint}" if dead.hint else ""
    return name_connection(
        configuration.conn_id,
        f"the authorization server refused the refresh token ({said}) at {show_time(dead.at)}.{hint} A person has to "
        f"{_sign_in(configuration)}. Until then no task calls the server again.",
    )


def refresh_token_ends(configuration: GrantConfiguration, at: float, left: float) -> str:
    """For a refresh token that dies soon, and that no refresh puts off.

    :param at: seconds since the epoch when it ends.
    :param left: seconds until then.
    """
    return name_connection(
        configuration.conn_id,
        f"the refresh token ends at {show_time(at)}, in {max(0.0, left) / 86400:.1f} days, and this refresh has not "
        f"put it off. By then a person has to {_sign_in(configuration)}.",
    )


def _sign_in(configuration: GrantConfiguration) -> str:
    where = f" at {configuration.sign_in_page}, or" if configuration.sign_in_page else ":"
    return f"sign in again{where} enter the new refresh token in the connection's field 'refresh_token'"


_LOST = "If the server had rotated the refresh token by then, and grants no grace period, the new one is lost."


def holder_gone(lease: Lease) -> str:
    """For a lease that has ended without a result: its holder was killed, lost it, or gave it up."""
    worker = f"The worker that began to refresh at {show_time(lease.taken_at)}{_by(lease)}"
    if not lease.sent:
        return f"{worker} sent nothing: it was killed before, or gave up."
    return f"{worker} has left no result: it was killed, or it lost its lease. {_LOST}"


def answer_lost(at: float) -> str:
    """For a token request that the server may have carried out."""
    return f"The answer to the token request of {show_time(at)} was lost. {_LOST}"


def answer_useless(at: float) -> str:
    """For a complete answer without the token."""
    return (
        f"The server answered the token request of {show_time(at)} with something else than a token. If it had "
        "rotated the refresh token by then, the new one is lost."
    )


def waiting_begins(conn_id: str, lease: Lease, left: float) -> str:
    """For a caller that begins to wait for another worker's refresh.

    :param lease: that worker's lease.
    :param left: seconds for which it still binds.
    """
    return name_connection(
        conn_id,
        f"another worker{_by(lease)} has been refreshing since {show_time(lease.taken_at)}. "
        f"Waiting for its result, for at most {left:.0f} s after its last sign of life.",
    )


def _by(lease: Lease) -> str:
    return f" ({lease.actor})" if lease.actor else ""


def lease_not_renewed(conn_id: str, failure: object, left: float) -> str:
    """For a request in flight under a lease that could not be renewed."""
    return name_connection(
        conn_id,
        f"the token request takes long, and its lease was not renewed ({failure}). Without a renewal the request is "
        f"broken off in {max(0.0, left):.0f} s, before another worker may send one.",
    )


#: For a refused refresh token that works only with the key under which it was issued (RFC 9449 section 5).
BOUND_TO_KEY = (
    "It works only with the key under which it was issued: if 'dpop_private_key' has changed since, put the former "
    "key back and run 'python -m airflow_oauth_provider revive'."
)
#: For the grant that OAuth 2.1 does away with.
OUT_OF_DATE_GRANT = (
    "grant_type 'password' hands a person's password to this program, defeats two-factor sign-in and is gone from "
    "OAuth 2.1 (RFC 9700 section 2.4). Ask the vendor for client_credentials or jwt_bearer."
)


def configuration_error(configuration: GrantConfiguration, refusal: errors.ErrorResponse) -> exceptions.OAuth2Error:
    """Return the error for a refusal that a change of the configuration mends, with a hint for its code."""
    kind = _KINDS.get(type(refusal), exceptions.ConfigurationError)
    about_proof = refusal.code in ("use_dpop_nonce", "invalid_dpop_proof")
    hint = _proof_hint(configuration) if about_proof else _hint(configuration, refusal)
    return kind(f"{refusal}. {hint}", conn_id=configuration.conn_id)


_KINDS: dict[type[errors.ErrorResponse], type[exceptions.ConfigurationError]] = {
    errors.InvalidClientResponse: exceptions.InvalidClient,
    errors.UnauthorizedClientResponse: exceptions.UnauthorizedClient,
    errors.UnsupportedGrantTypeResponse: exceptions.UnsupportedGrantType,
    errors.InvalidScopeResponse: exceptions.InvalidScope,
}
_CHECK_DOCUMENTATION = "Check the connection against the vendor's documentation."


def _hint(configuration: GrantConfiguration, refusal: errors.ErrorResponse) -> str:
    match refusal:
        case errors.InvalidClientResponse():
            return _client_hint(configuration)
        case errors.UnauthorizedClientResponse():
            return f"Allow the grant {configuration.grant_type!r} for this client at the authorization server."
        case errors.UnsupportedGrantTypeResponse():
            return f"The server does not offer the grant {configuration.grant_type!r}: check grant_type and oauth_url."
        case errors.InvalidScopeResponse():
            return (
                f"The connection asks for the scope {configuration.options.scope!r}: leave 'scope' empty to keep what "
                "was granted, or ask for a part of it."
            )
        case errors.InvalidGrantResponse():
            return _GRANT_HINTS.get(configuration.grant_type, _CHECK_DOCUMENTATION)
        case errors.InvalidTargetResponse():
            return _target_hint(configuration)
    return _CHECK_DOCUMENTATION


_GRANT_HINTS = {
    "jwt_bearer": "The assertion was refused: check assertion_issuer, assertion_subject, assertion_audience, the key, "
    "whether that subject has consented, and the clock of this machine.",
    "token_exchange": "The token to exchange was refused: enter a valid one in the field 'subject_token'.",
    "password": "Name or password was refused: check username and user_password.",
}


def _client_hint(configuration: GrantConfiguration) -> str:
    method = configuration.client.auth_method
    match method:
        case "none":
            return (
                "The client sent only its id (auth_method 'none'). If it was registered with a secret, enter that as "
                "the connection's password, and set auth_method to 'client_secret_basic'."
            )
        case "private_key_jwt":
            what = (
                "that the server has the public key of private_key (and key_id), that assertion_audience is what it "
                "expects, and the clock of this machine."
            )
        case "tls_client_auth" | "self_signed_tls_client_auth":
            what = "that 'cert' is the certificate registered for it."
        case "client_secret_basic":
            what = (
                f"the client id and secret, then try auth_method 'client_secret_post'.{_encoding_hint(configuration)}"
            )
        case "client_secret_post":
            what = "the client id and secret, then try auth_method 'client_secret_basic'."
        case _:
            what = "the client id and secret."
    return f"The client authenticated with {method!r}. Check {what}"


def _encoding_hint(configuration: GrantConfiguration) -> str:
    """Say what may be wrong where id or secret have characters that servers decode in different ways."""
    client = configuration.client
    if not set(f"{client.client_id}{client.client_secret or ''}") & set("+/=% :"):
        return ""
    other = "raw" if client.basic_encoding != "raw" else "percent"
    return (
        f" Client id or secret have a character such as + / = or %, which is sent with basic_encoding "
        f"{client.basic_encoding!r} (RFC 6749 section 2.3.1): some servers want {other!r}."
    )


def _target_hint(configuration: GrantConfiguration) -> str:
    resources, audience = configuration.options.resources, configuration.options.audience
    asked = [f"the resource {' '.join(resources)!r}"] if resources else []
    asked += [f"the audience {audience!r}"] if audience else []
    if not asked:
        return "The connection names no API: enter the one that the token is for under 'resource' or 'audience'."
    several = " Many servers give a token for one resource at a time." if len(resources) > 1 else ""
    # oidc-provider rotates before it looks at the resource.
    spent = " Some servers have spent the refresh token by then: sign in again if the next refresh is refused, too."
    return (
        f"The connection asks for {' and '.join(asked)}: enter it as the API's documentation does, to the letter; a "
        f"person has to have granted it at sign-in.{several}{spent if configuration.rotates else ''}"
    )


def _proof_hint(configuration: GrantConfiguration) -> str:
    if configuration.client.dpop_key is None:
        return (
            "The server binds tokens to a key (DPoP, RFC 9449): enter a private key under 'dpop_private_key', and sign "
            "in with it."
        )
    return (
        "The server refused the proof of 'dpop_private_key'. Check the clock of this machine, that 'oauth_url' is the "
        "address by which the server knows its token endpoint, and that it takes keys of this kind (doctor tells)."
    )
