"""What is looked at before a request leaves: its header fields, and the proxy by which it goes.

``requests`` and ``http.client`` quote what they refuse, secrets too; here the field is named and its value is not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from requests.utils import select_proxy
from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from airflow_oauth_provider.exceptions import ConfigurationError
from airflow_oauth_provider.oauth2.client import is_loopback
from airflow_oauth_provider.oauth2.redaction import redact, show_url

_PROXY_SCHEMES = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")
# RFC 9110 section 5.5, in Latin-1, as it is sent; section 5.1.
_VALUE = re.compile(r"(?:[\x21-\x7e\x80-\xff][\x20-\x7e\x80-\xff\t]*+)?").fullmatch
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch


def check_headers(conn_id: str, headers: Mapping[Any, Any]) -> None:
    """Refuse header fields that cannot be sent.

    :param conn_id: the connection, for messages.
    :raises ConfigurationError: names the field, and never shows its value.
    """
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
    """Refuse a proxy that cannot be used, and one that would read the token of a request by plain http.

    :param conn_id: the connection, for messages.
    :param url: where the request goes.
    :param proxies: by scheme, those of the environment among them.
    :param allow_http: the connection's key.
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
