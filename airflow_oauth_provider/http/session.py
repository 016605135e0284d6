"""A ``requests.Session`` that stays authorized, and careful.

``requests`` and ``http.client`` quote the header field or the proxy that they refuse, secrets too. So both are checked
here before a request leaves; the error names the field, and not its value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from copy import copy
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlencode

import requests
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict
from requests.utils import select_proxy
from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from airflow_oauth_provider.connection.address import decode_field, origin_of
from airflow_oauth_provider.exceptions import ConfigurationError
from airflow_oauth_provider.http.auth import OAuth2Auth
from airflow_oauth_provider.http.body import BoundedAdapter
from airflow_oauth_provider.http.errors import presentable
from airflow_oauth_provider.oauth2.client import is_loopback
from airflow_oauth_provider.oauth2.redaction import redact, show_url


class OAuth2Session(requests.Session):
    """A session whose requests carry a fresh token to the allowed origins, and to no other.

    What comes back has bounds, too: see :mod:`airflow_oauth_provider.http.body`.

    :param timeout: seconds, for requests that name no timeout of their own: ``requests`` would wait for ever.
    :param allow_http: the connection's key: plain http may leave this machine.
    """

    def __init__(self, timeout: float, *, allow_http: bool = False) -> None:
        super().__init__()
        #: Seconds for requests that name no timeout of their own.
        self.timeout = timeout
        self._allow_http = allow_http
        # What is decoded within bounds, whatever else is installed.
        self.headers["Accept-Encoding"] = "gzip, deflate"
        self._merged: dict[str, Any] = {}

    @property
    def guard(self) -> OAuth2Auth | None:
        """Who knows where the token may go; None where somebody has given the session another auth."""
        return self.auth if isinstance(self.auth, OAuth2Auth) else None

    @property
    def _conn_id(self) -> str:
        return "" if self.guard is None else self.guard.conn_id

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send a prepared request; see ``requests.Session.send``."""
        if kwargs.get("timeout") is None:
            kwargs["timeout"] = self.timeout
        try:
            return super().send(request, **kwargs)
        except requests.RequestException as error:
            if self.guard is None:
                raise
            if error.request is None:  # of a body that broke off while it was read
                error.request = request
            raise presentable(error, request.method or "", self.guard.conn_id, self.guard.bare) from None

    def merge_environment_settings(
        self,
        url: str | bytes | None,
        proxies: Mapping[str, Any] | None,
        stream: bool | None,
        verify: bool | str | None,
        cert: Any,
    ) -> Any:
        """Merge in the environment, but not over what the connection says of TLS, as ``requests`` would.

        Reads the environment once for each origin: going through all of it takes a tenth of a request's time.
        """
        own = self.verify if verify is None else verify
        asked = (origin_of(str(url)), sorted((proxies or {}).items()), stream, own, cert, self.trust_env, self.proxies)
        # All that the result depends on besides; as a text, for some of it cannot be hashed.
        key = repr((*asked, self.verify, self.cert, self.stream))
        if key not in self._merged:
            full = super().merge_environment_settings(url, proxies, stream, own, cert)  # type: ignore[arg-type]
            check_proxy(self._conn_id, str(url), full["proxies"], allow_http=self._allow_http)
            self._merged[key] = full
        merged = dict(self._merged[key])
        merged["proxies"] = dict(merged["proxies"])
        return merged

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        """On a redirect: the token goes along where it may go, and stays behind elsewhere."""
        if self.guard is not None:
            self.guard.follow_redirect(prepared_request, response.url)
        else:
            super().rebuild_auth(prepared_request, response)  # type: ignore[no-untyped-call]

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return where ``resp`` redirects to."""
        return decode_field(resp.headers["location"]) if resp.is_redirect else None

    def get_adapter(self, url: str) -> BaseAdapter:
        """Return what sends requests to ``url``, with bounds for what comes back."""
        return BoundedAdapter(super().get_adapter(url), self._conn_id)

    def prepare_request(self, request: requests.Request) -> requests.PreparedRequest:
        """Prepare ``request``; see ``requests.Session.prepare_request``.

        :raises ConfigurationError: when a header cannot be sent: ``requests`` would quote it, whatever it holds.
        """
        own = self.headers  # whose items() look up each field by its name
        defaults = dict(own.lower_items()) if isinstance(own, CaseInsensitiveDict) else own
        check_headers(self._conn_id, {**defaults, **(request.headers or {})})
        return super().prepare_request(request if self.params else _simplify(request, defaults))


def _simplify(request: requests.Request, defaults: Mapping[str, Any]) -> requests.Request:
    """Return what is prepared as ``request`` is, with nothing left to merge where its parameters and headers are plain.

    ``requests`` 2.34 tests by a protocol whether something is a mapping, six times a request: a tenth of all that a
    page costs.
    """
    simple = copy(request)
    if type(request.params) is dict and all(type(value) in (str, int) for value in request.params.values()):
        simple.params = urlencode(request.params)  # as requests does it
    if not request.headers and None not in defaults.values():
        simple.headers = None  # those of the session, as they are
    return simple


_PROXY_SCHEMES = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")
# RFC 9110 section 5.5, in Latin-1, as it is sent; section 5.1.
_VALUE = re.compile(r"(?:[\x21-\x7e\x80-\xff][\x20-\x7e\x80-\xff\t]*+)?").fullmatch
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch


def check_headers(conn_id: str, headers: Mapping[Any, Any]) -> None:
    """Refuse header fields that cannot be sent, by an error that names the field and never shows its value."""
    for name, value in headers.items():
        shown_name = name.decode("latin-1") if isinstance(name, bytes) else str(name)
        text = value.decode("latin-1") if isinstance(value, bytes) else value
        if text is None:  # takes a default of the session off
            continue
        if not _NAME(shown_name):
            problem = "is no name of a header field"
        elif not isinstance(text, str):
            problem = f"is a {type(text).__name__}, but has to be a text"
        elif not _VALUE(text):
            problem = "has a line break, a blank in front, or another character that cannot stand in a header"
        else:
            continue
        raise ConfigurationError(
            f"the header {redact(shown_name, limit=60)!r} of the connection or the call {problem}.", conn_id=conn_id
        )


def check_proxy(conn_id: str, url: str, proxies: Mapping[str, str], *, allow_http: bool) -> None:
    """Refuse a proxy that cannot be used, and one that would read the token of a request to ``url`` by plain http.

    :param proxies: by scheme, those of the environment among them.
    :raises ConfigurationError: says what is wrong, without the proxy's password.
    """
    proxy = select_proxy(url, dict(proxies))
    if not proxy:
        return
    try:
        parts = parse_url(proxy if ":/" in proxy else f"http://{proxy}")
    except (LocationParseError, ValueError):
        parts = parse_url("")
    where = "('proxies' of the connection's extra, or the environment)"
    if parts.scheme not in _PROXY_SCHEMES or not parts.host:
        shown = show_url(proxy) if "@" in proxy else redact(proxy, limit=60)
        raise ConfigurationError(
            f"the proxy {shown!r} {where} is no address: it has to be one such as http://proxy.example.com:3128.",
            conn_id=conn_id,
        )
    if parts.scheme.startswith("socks") and find_spec("socks") is None:
        raise ConfigurationError(
            f"a {parts.scheme} proxy {where} needs the library PySocks: pip install 'requests[socks]'.", conn_id=conn_id
        )
    if url.lower().startswith("http://") and not allow_http and not is_loopback(parts.host.strip("[]")):
        raise ConfigurationError(
            f"the access token would travel unencrypted to the proxy {parts.host} {where}. Use "
            "https, name the API's host in NO_PROXY, or set the key 'allow_http' of the extra to true, for a network "
            "that you trust.",
            conn_id=conn_id,
        )
