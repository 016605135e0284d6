"""The errors that users of this package meet.

::

    OAuth2Error                        (AirflowException)
    ├── ConfigurationError             fails the task without retries
    │   ├── InvalidClient              RFC 6749 section 5.2
    │   ├── UnauthorizedClient         RFC 6749 section 5.2
    │   ├── UnsupportedGrantType       RFC 6749 section 5.2
    │   ├── InvalidScope               RFC 6749 section 5.2
    │   └── StoreNotWritable           this connection's tokens cannot be kept where it says
    ├── ReauthorizationRequired        fails the task without retries: a person has to sign in again
    ├── TokenRequestError              the token endpoint failed; a retry may help
    │   └── MalformedResponse            it answered, but not with a token and not with an OAuth error
    ├── RefreshTimeout                 another worker's refresh did not come to an end in time
    ├── RefreshTooEarly                the vendor's minimum interval has not passed and no token works
    ├── StoreError                     the token store failed; a retry may help
    │   ├── StoreUnavailable           it cannot be reached, or refuses for now
    │   └── StaleVersion               somebody else has written since it was read
    ├── UnrewindableBody               a request must be sent again, but its body is spent
    ├── ForeignOrigin                  a request would leave for a host that the connection does not list
    └── ApiError                       the API itself answered with an error

Errors that only a person can mend also derive from ``AirflowFailException``: Airflow then fails the task without
retries. No error ever holds a token, a secret or a request body.
"""

from __future__ import annotations

from airflow_oauth_provider.compat.sdk import AirflowException, AirflowFailException


def name_connection(conn_id: str, text: str) -> str:
    """Return ``text`` behind the connection's name, the form of all messages of this package."""
    return f"Connection {conn_id!r}: {text}"


class OAuth2Error(AirflowException):
    """The base of all errors of this package.

    :param message: what is wrong, and what would be right.
    :param conn_id: the connection that it is about, with which the text then begins; None: not known where it is
        raised.
    """

    def __init__(self, message: str = "", *, conn_id: str | None = None) -> None:
        super().__init__(message if conn_id is None else name_connection(conn_id, message))

    def name_connection(self, conn_id: str) -> None:
        """Begin the text with the connection, unless it does already: a store does not know its connection."""
        if not str(self).startswith(f"Connection {conn_id!r}"):
            self.args = (name_connection(conn_id, str(self)), *self.args[1:])


class ConfigurationError(OAuth2Error, AirflowFailException):
    """The connection, or what the authorization server knows of the client, is wrong."""


class InvalidClient(ConfigurationError):
    """``invalid_client``: client authentication failed (RFC 6749 section 5.2)."""


class UnauthorizedClient(ConfigurationError):
    """``unauthorized_client``: this client may not use this grant (RFC 6749 section 5.2)."""


class UnsupportedGrantType(ConfigurationError):
    """``unsupported_grant_type``: the server does not know the grant (RFC 6749 section 5.2)."""


class InvalidScope(ConfigurationError):
    """``invalid_scope``: the scope is unknown, malformed or beyond what was granted (RFC 6749 section 5.2)."""


class StoreNotWritable(ConfigurationError):
    """Rotated tokens cannot be written where the connection says. Raised before anything is spent."""


class ReauthorizationRequired(OAuth2Error, AirflowFailException):
    """``invalid_grant``: the refresh token is dead, and a person has to sign in again (RFC 6749 section 5.2)."""


class TokenRequestError(OAuth2Error):
    """The token endpoint could not be reached, or answered with a passing error. A retry may help."""


class MalformedResponse(TokenRequestError):
    """The token endpoint's answer is neither a token nor an OAuth error (RFC 6749 sections 5.1 and 5.2)."""


class RefreshTimeout(OAuth2Error):
    """Other workers held the refresh lease for too long. A retry may help."""


class RefreshTooEarly(OAuth2Error):
    """The vendor allows the next refresh only later, and no token works until then. A retry may help."""


class StoreError(OAuth2Error):
    """The token store failed. A retry may help."""


class StoreUnavailable(StoreError):
    """The token store cannot be reached, or refuses the call for now."""


class StaleVersion(StoreError):
    """The record in the store is not the version that the writer had read."""


class UnrewindableBody(OAuth2Error):
    """A request has to be sent again after a 401, but its body was a stream that cannot be rewound."""


class ForeignOrigin(OAuth2Error, AirflowFailException):
    """A request would carry the token to an origin that the connection does not allow (RFC 9700 section 4.9)."""


class ApiError(OAuth2Error):
    """The API answered with an error status, or the caller's check refused its answer.

    :param message: what to show: method, URL without secrets, status, the first part of the body.
    :param status_code: the HTTP status of the answer; None where there was none.
    """

    def __init__(self, message: str, *, status_code: int | None = None) -> None:
        super().__init__(message)
        #: The HTTP status of the answer; None where there was none.
        self.http_status = status_code
