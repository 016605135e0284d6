"""Where the access token stands in an API call, and which answers mean that it has expired."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

import requests

from airflow_oauth_provider.exceptions import ConfigurationError
from airflow_oauth_provider.oauth2.patterns import Search

# Printable ASCII: RFC 6750 section 2.1 allows less, but access tokens are opaque.
_HEADER_SAFE = re.compile(r"[\x21-\x7e]+")
#: Bytes of a body in which ``expired_pattern`` is looked for.
_LOOKED_AT = 64 * 1024


@dataclass(frozen=True, slots=True)
class BearerUsage:
    """How an API takes access tokens (RFC 6750 section 2), and how it turns them down.

    :param header_name: the header field that carries the token.
    :param header_prefix: the word before it; empty: none.
    :param in_query: the query parameter that carries it instead; empty: a header does.
    :param expired_statuses: statuses that mean "expired".
    :param expired_pattern: for statuses other than 401: what finds it in the body; None: anything.
    """

    header_name: str = "Authorization"
    header_prefix: str = "Bearer"
    in_query: str = ""
    expired_statuses: frozenset[int] = frozenset({401})
    expired_pattern: Search | None = None

    def put(self, request: Any, token: str) -> None:
        """Put ``token`` on ``request`` (anything with ``headers`` and ``url``), in place of an earlier one."""
        if self.in_query:
            request.url = self._with_query(str(request.url), token)
        else:
            request.headers.update(self.headers(token))

    def take_off(self, request: Any) -> None:
        """Take the token off ``request``."""
        if self.in_query:
            request.url = self._with_query(str(request.url), None)
        else:
            request.headers.pop(self.header_name, None)

    def token_of(self, request: Any) -> str | None:
        """Return the token that ``request`` carries; None where it carries none of ours."""
        if self.in_query:
            return dict(parse_qsl(urlsplit(str(request.url)).query)).get(self.in_query)
        sent = str(request.headers.get(self.header_name, ""))
        start = f"{self.header_prefix} " if self.header_prefix else ""
        return sent.removeprefix(start) or None if sent.startswith(start) else None

    def headers(self, token: str) -> dict[str, str]:
        """Return the header fields for clients other than ``requests``; empty where the query carries the token.

        :raises ConfigurationError: no header can carry the token. HTTP clients would quote it in their own error.
        """
        if self.in_query:
            return {}
        token = token.strip()
        if not _HEADER_SAFE.fullmatch(token):
            raise ConfigurationError(
                "the access token has a line break, a blank or another character that no header can carry: see what "
                "was entered as 'access_token', or what is in the store."
            )
        return {self.header_name: f"{self.header_prefix} {token}" if self.header_prefix else token}

    def mask_with(self, mask: Callable[[str], None]) -> Callable[[str], None]:
        """Return a function that masks a token as ``mask`` does, in the form too in which it stands in a query."""
        if not self.in_query:
            return mask

        def mask_both(token: str) -> None:
            mask(token)
            mask(quote(token, safe=""))

        return mask_both

    def means_expired(self, response: requests.Response) -> bool:
        """Tell whether ``response`` says that the token has expired; reads its body only where that decides."""
        return self.says_expired(response.status_code, lambda: response.content)

    def says_expired(self, status: int, body: Any) -> bool:
        """Tell the same of a status and a function that returns the body."""
        if status not in self.expired_statuses:
            return False
        if status == 401 or self.expired_pattern is None:
            return True
        return self.expired_pattern(body()[:_LOOKED_AT].decode(errors="replace")) is not None

    def _with_query(self, url: str, token: str | None) -> str:
        parts = urlsplit(url)
        own = f"{quote(self.in_query, safe='')}="
        # The rest of the query stays as it is, byte by byte: it may be signed.
        kept = [part for part in parts.query.split("&") if part and not part.startswith(own)]
        added = [] if token is None else [own + quote(token, safe="")]
        return urlunsplit(parts._replace(query="&".join(kept + added)))
