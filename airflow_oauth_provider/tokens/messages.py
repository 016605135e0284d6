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
        return name_connection(
            conn_id,
            "refresh_when is 'never', so its access token is not refreshed. Enter another "
            "one, or set refresh_when to 'expired'. RefreshTokenOperator has no place in such a DAG.",
        )
    return name_connection(
        conn_id,
        "refresh_when is 'never', and there is no usable access token. "
        "Enter an access token, or set refresh_when to 'expired'.",
    )


def no_refresh_token(conn_id: str, hint: str = "", page: str = "") -> str:
    """For a connection that has nothing to refresh with.

    :param hint: of the :class:`~airflow_oauth_provider.tokens.configuration.GrantConfiguration`.
    :param page: its ``sign_in_page``.
    """
    what = f"Sign in at {page}, enter one" if page else "Enter one"
    return name_connection(
        conn_id,
        "grant_type is 'refresh_token', but there is no refresh token, neither in the "
        f"connection's 'refresh_token' nor in its store. {what}, or set grant_type to 'client_credentials'.{hint}",
    )


def dead_grant(conn_id: str, dead: DeadGrant, description: str = "", page: str = "") -> str:
    """For a refresh token that the server has refused for good.

    :param description: what the server said beside the code.
    :param page: the ``sign_in_page`` of the
        :class:`~airflow_oauth_provider.tokens.configuration.GrantConfiguration`.
    """
    said = f"{dead.error}: {description}" if description else dead.error
    hint = f" {dead.hint}" if dead.hint else ""
    return name_connection(
        conn_id,
        f"the authorization server refused the refresh token ({said}) at {show_time(dead.at)}."
        f"{hint} A person has to sign in again{_where(page)} enter the new refresh token in the connection's field "
        "'refresh_token'. Until then no task calls the server again.",
    )


def _where(page: str) -> str:
    return f" at {page}, or" if page else ":"


def holder_gone(lease: Lease) -> str:
    """For a lease that has ended without a result: its holder was killed, lost it, or gave it up."""
    begun = f"began to refresh at {show_time(lease.taken_at)}"
    if not lease.sent:
        return f"The worker that {begun}{_by(lease)} sent nothing: it was killed before, or gave up."
    return (
        f"The worker that {begun}{_by(lease)} has left no result: it was killed, or it lost its lease. If the server "
        "had rotated the refresh token by then, and grants no grace period, the new one is lost."
    )


def _by(lease: Lease) -> str:
    return f" ({lease.actor})" if lease.actor else ""


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


def lease_not_renewed(conn_id: str, failure: object, left: float) -> str:
    """For a request in flight under a lease that could not be renewed."""
    return name_connection(
        conn_id,
        f"the token request takes long, and its lease was not renewed ({failure}). Without a "
        f"renewal the request is broken off in {max(0.0, left):.0f} s, before another worker may send one.",
    )


def answer_lost(at: float) -> str:
    """For a token request that the server may have carried out."""
    return (
        f"The answer to the token request of {show_time(at)} was lost. If the server had rotated the refresh token by "
        "then, and grants no grace period, the new one is lost."
    )


def answer_useless(at: float) -> str:
    """For a complete answer without the token."""
    return (
        f"The server answered the token request of {show_time(at)} with something else than a token. If it had "
        "rotated the refresh token by then, the new one is lost."
    )


def bound_refresh_token() -> str:
    """For a refused refresh token that works only with the key under which it was issued (RFC 9449 section 5)."""
    return (
        "It works only with the key under which it was issued: if 'dpop_private_key' has changed since, put the former "
        "key back and run 'python -m airflow_oauth_provider revive'."
    )


def refresh_token_ends(conn_id: str, at: float, left: float, page: str = "") -> str:
    """For a refresh token that dies soon, and that no refresh puts off.

    :param at: seconds since the epoch when it ends.
    :param left: seconds until then.
    :param page: as in :func:`dead_grant`.
    """
    return name_connection(
        conn_id,
        f"the refresh token ends at {show_time(at)}, in {max(0.0, left) / 86400:.1f} days, and "
        f"this refresh has not put it off. By then a person has to sign in again{_where(page)} enter the new refresh "
        "token in the connection's field 'refresh_token'.",
    )


def password_grant(conn_id: str) -> str:
    """For the grant that OAuth 2.1 does away with."""
    return name_connection(
        conn_id,
        "grant_type 'password' hands a person's password to this program, defeats two-factor "
        "sign-in and is gone from OAuth 2.1 (RFC 9700 section 2.4). Ask the vendor for client_credentials or "
        "jwt_bearer.",
    )


def lease_held_too_long(conn_id: str) -> str:
    """For a caller that waited in vain."""
    return name_connection(conn_id, "other workers kept refreshing for too long without a result. Try again.")


def another_worker_refreshes(conn_id: str) -> str:
    """For a caller whose token still works while another worker refreshes."""
    return name_connection(conn_id, "another worker is refreshing the token.")


def too_early(conn_id: str, wait: float) -> str:
    """For a refresh that the vendor wants later than a task should wait for it."""
    return name_connection(
        conn_id,
        f"the next refresh is allowed in {wait:.0f} s (min_refresh_interval of the connection, "
        "or Retry-After of the server).",
    )


_OTHER_METHOD = {"client_secret_basic": "client_secret_post", "client_secret_post": "client_secret_basic"}


def configuration_error(configuration: GrantConfiguration, refusal: errors.ErrorResponse) -> exceptions.OAuth2Error:
    """Return the error for a refusal that a change of the configuration mends, with a hint for its code."""
    kinds: dict[type[errors.ErrorResponse], type[exceptions.ConfigurationError]] = {
        errors.InvalidClientResponse: exceptions.InvalidClient,
        errors.UnauthorizedClientResponse: exceptions.UnauthorizedClient,
        errors.UnsupportedGrantTypeResponse: exceptions.UnsupportedGrantType,
        errors.InvalidScopeResponse: exceptions.InvalidScope,
    }
    kind = kinds.get(type(refusal), exceptions.ConfigurationError)
    about_proof = refusal.code in ("use_dpop_nonce", "invalid_dpop_proof")
    hint = _proof_hint(configuration) if about_proof else _hint(configuration, refusal)
    return kind(name_connection(configuration.conn_id, f"{refusal}. {hint}"))


def _hint(configuration: GrantConfiguration, refusal: errors.ErrorResponse) -> str:
    method = configuration.client.auth_method
    if isinstance(refusal, errors.InvalidClientResponse):
        other = _OTHER_METHOD.get(method)
        if method == "private_key_jwt":
            return (
                "The client authenticated with 'private_key_jwt'. Check that the server has the public key of "
                "private_key (and key_id), that assertion_audience is what it expects, and the clock of this machine."
            )
        if method in ("tls_client_auth", "self_signed_tls_client_auth"):
            return f"The client authenticated with {method!r}. Check that 'cert' is the certificate registered for it."
        if method == "none":
            return (
                "The client sent only its id (auth_method 'none'). If it was registered with a secret, enter that as "
                "the connection's password, and set auth_method to 'client_secret_basic'."
            )
        try_other = f", then try auth_method {other!r}" if other else ""
        encoding = _encoding_hint(configuration) if method == "client_secret_basic" else ""
        return f"The client authenticated with {method!r}. Check the client id and secret{try_other}.{encoding}"
    if isinstance(refusal, errors.UnauthorizedClientResponse):
        return f"Allow the grant {configuration.grant_type!r} for this client at the authorization server."
    if isinstance(refusal, errors.UnsupportedGrantTypeResponse):
        return f"The server does not offer the grant {configuration.grant_type!r}: check grant_type and oauth_url."
    if isinstance(refusal, errors.InvalidScopeResponse):
        return (
            f"The connection asks for the scope {configuration.options.scope!r}: leave 'scope' empty to keep what was "
            "granted, or ask for a part of it."
        )
    if isinstance(refusal, errors.InvalidGrantResponse):
        return {
            "jwt_bearer": "The assertion was refused: check assertion_issuer, assertion_subject, assertion_audience, "
            "the key, whether that subject has consented, and the clock of this machine.",
            "token_exchange": "The token to exchange was refused: enter a valid one in the field 'subject_token'.",
            "password": "Name or password was refused: check username and user_password.",
        }.get(configuration.grant_type, "Check the connection against the vendor's documentation.")
    if isinstance(refusal, errors.InvalidTargetResponse):
        return _target_hint(configuration)
    return "Check the connection against the vendor's documentation."


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
