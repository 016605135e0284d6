"""The parameters with which each grant asks for a token."""

from __future__ import annotations

from dataclasses import dataclass


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


def refresh_token(token: str, options: GrantOptions) -> list[tuple[str, str]]:
    """Ask for an access token anew (RFC 6749 section 6)."""
    return [("grant_type", "refresh_token"), ("refresh_token", token), *options.parameters()]


def client_credentials(options: GrantOptions) -> list[tuple[str, str]]:
    """Ask in the name of the client itself (RFC 6749 section 4.4)."""
    return [("grant_type", "client_credentials"), *options.parameters()]
