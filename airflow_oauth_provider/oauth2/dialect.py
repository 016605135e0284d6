"""How one authorization server departs from RFC 6749 in what it takes and in what it answers.

The defaults are the RFC's own rules. Everything here is stated by a connection or by a preset, never guessed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

#: What a ``response_map`` can place.
PLACEABLE = (
    "access_token",
    "refresh_token",
    "expires_in",
    "expires_at",
    "token_type",
    "scope",
    "refresh_expires_in",
    "error",
    "error_description",
)
#: The codes of RFC 6749 (sections 4.1.2.1 and 5.2) and RFC 8707 to which a vendor's code can amount.
STANDARD_CODES = (
    "invalid_client",
    "invalid_grant",
    "invalid_request",
    "invalid_scope",
    "invalid_target",
    "unauthorized_client",
    "unsupported_grant_type",
    "server_error",
    "temporarily_unavailable",
)
#: Token types of RFC 6750, and its misspelling by a widespread gateway; compared without regard to case.
BEARER_TYPES = ("bearer", "bearertoken")


@dataclass(frozen=True, slots=True)
class ErrorMark:
    """What tells an error from a token where the status does not.

    :param path: JSONPath of a value; ``$`` is the body's text.
    :param pattern: regular expression that the value, written as in JSON but without quotes, matches.
    """

    path: str
    pattern: str


@dataclass(frozen=True, slots=True)
class Dialect:
    """One server's way.

    :param request_format: where parameters go: ``form``, ``json`` or ``query``. The last one puts secrets into a URL,
        against RFC 6749 section 2.3.1; it is for servers that take nothing else.
    :param parameters: added to each token request; they win over the grant's own of the same name, and an empty
        value leaves that one out.
    :param parameter_names: the server's names for parameters, by their standard names.
    :param headers: added to each token request.
    :param paths: JSONPaths by the names in :data:`PLACEABLE`.
    :param milliseconds: whether lifetimes are in milliseconds.
    :param default_expires_in: seconds that an access token lives where the response does not say.
    :param accepted_types: values of ``token_type`` with which a token is used; empty: any, for a connection that says
        itself how the token is to be sent.
    :param error_codes: codes of RFC 6749 by the vendor's own.
    :param error_mark: tells an error inside a success.
    :param scope_separator: what stands between scopes.
    """

    request_format: str = "form"
    parameters: Mapping[str, str] = field(default_factory=dict, repr=False)
    parameter_names: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    paths: Mapping[str, str] = field(default_factory=dict)
    milliseconds: bool = False
    default_expires_in: float | None = None
    accepted_types: tuple[str, ...] = BEARER_TYPES
    error_codes: Mapping[str, str] = field(default_factory=dict)
    error_mark: ErrorMark | None = None
    scope_separator: str = " "

    def translate(self, fields: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """Return ``fields`` as the server wants them; what is empty is left out (RFC 6749 section 3.2).

        :param fields: parameters by their standard names, client authentication included.
        """
        given = dict(self.parameters)
        fields = [*((name, value) for name, value in fields if name not in given), *given.items()]
        return [
            (self.parameter_names.get(name, name), self._scope(value) if name == "scope" else value)
            for name, value in fields
            if value
        ]

    def accepts(self, token_type: str) -> bool:
        """Tell whether a token of this type may be used (RFC 6749 section 7.1); case does not matter."""
        return not self.accepted_types or token_type.lower() in {kind.lower() for kind in self.accepted_types}

    def read_scope(self, scope: str) -> str:
        """Return a scope as answered, space-delimited."""
        return scope if self.scope_separator == " " else " ".join(scope.replace(self.scope_separator, " ").split())

    def _scope(self, scope: str) -> str:
        return scope if self.scope_separator == " " else self.scope_separator.join(scope.split())
