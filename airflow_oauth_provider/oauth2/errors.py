"""What can come of a call to an authorization server, when it is not a token.

::

    OAuth2ProtocolError
    ├── NotConnected          the request never reached the server: nothing was spent
    ├── LostResponse          the request may have been carried out, its response never came
    ├── ServerFailure         429 or 5xx, or an error that the RFC calls passing
    ├── NonceRequired         the proof of a key lacked the server's nonce: nothing was spent
    ├── UnexpectedResponse    a response that is neither a token nor an OAuth error
    │   └── WrongTokenType    a token, but of a type that is not to be used
    └── ErrorResponse         an OAuth error response (RFC 6749 section 5.2), one class a code
        ├── InvalidRequestResponse, InvalidClientResponse, InvalidGrantResponse, UnauthorizedClientResponse,
        └── UnsupportedGrantTypeResponse, InvalidScopeResponse, InvalidTargetResponse

The messages are fit to be shown: they name the endpoint and the status, and hold no secret.
"""

from __future__ import annotations


class OAuth2ProtocolError(Exception):
    """A call to the authorization server that brought no result."""


class NotConnected(OAuth2ProtocolError):
    """No connection came about (name, address, TLS, proxy), so the server has seen nothing.

    :param lasting: true where trying again is of no use, such as a certificate that does not verify.
    """

    def __init__(self, message: str, *, lasting: bool = False) -> None:
        super().__init__(message)
        self.lasting = lasting


class LostResponse(OAuth2ProtocolError):
    """The request went out, at least in part, and no complete response came back."""


class ServerFailure(OAuth2ProtocolError):
    """The server could not serve the request for now (429, 5xx).

    :param status: HTTP status.
    :param retry_after: seconds that the server asked to wait, None where it did not say.
    """

    def __init__(self, message: str, *, status: int, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class UnexpectedResponse(OAuth2ProtocolError):
    """A response that the specification does not know.

    :param status: HTTP status.
    :param refresh_token: a refresh token that the response did carry. It may be the only one that lives, so it is
        kept even though the rest of the response is of no use.
    :param is_whole: whether the response came to its end and is the server's own: another one would say the same.
    """

    def __init__(self, message: str, *, status: int, refresh_token: str | None = None, is_whole: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.refresh_token = refresh_token
        self.is_whole = is_whole or refresh_token is not None


class WrongTokenType(UnexpectedResponse):
    """A token that is bound to a key where none was given, or to none where one was (RFC 9449 section 5)."""


class NonceRequired(OAuth2ProtocolError):
    """The server wants a nonce in the proof that it has not had yet (RFC 9449 section 8); it is known by now.

    The server refuses such a request before it looks at the grant, so the next one may bring the same.
    """


#: The class of an error response by its code (RFC 6749 section 5.2). OpenID Connect (section 3.1.2.6) and Microsoft use
#: three more codes where only a person's sign-in helps.
ERROR_CLASSES: dict[str, type[ErrorResponse]] = {}
#: Codes that say "later" (RFC 6749 section 4.1.2.1, RFC 8628 section 3.5).
PASSING_CODES = frozenset({"server_error", "temporarily_unavailable", "slow_down"})


class ErrorResponse(OAuth2ProtocolError):
    """An OAuth error response whose code has no class of its own (RFC 6749 section 5.2).

    :param code: the ``error`` member, fit to be shown.
    :param description: the ``error_description`` member and vendor's codes, scrubbed and cut; may be empty.
    :param status: HTTP status.
    """

    def __init_subclass__(cls, codes: tuple[str, ...]) -> None:
        ERROR_CLASSES.update(dict.fromkeys(codes, cls))

    def __init__(self, message: str, *, code: str, description: str = "", status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.description = description
        self.status = status


class InvalidRequestResponse(ErrorResponse, codes=("invalid_request",)):
    """The request lacks a parameter, repeats one or is otherwise malformed."""


class InvalidClientResponse(ErrorResponse, codes=("invalid_client",)):
    """Client authentication failed."""


class InvalidGrantResponse(
    ErrorResponse, codes=("invalid_grant", "interaction_required", "login_required", "consent_required")
):
    """The refresh token is invalid, expired, revoked, or was issued to another client."""


class UnauthorizedClientResponse(ErrorResponse, codes=("unauthorized_client",)):
    """The client may not use this grant type."""


class UnsupportedGrantTypeResponse(ErrorResponse, codes=("unsupported_grant_type",)):
    """The authorization server does not support the grant type."""


class InvalidScopeResponse(ErrorResponse, codes=("invalid_scope",)):
    """The scope is invalid, unknown, malformed, or exceeds what was granted."""


class InvalidTargetResponse(ErrorResponse, codes=("invalid_target",)):
    """The resource is invalid, missing, unknown or malformed (RFC 8707 section 2)."""
