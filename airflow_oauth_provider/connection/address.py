"""Where the API is, and which hosts may see the access token, told by the very address to which a request goes.

A host with a name in braces is one that only the token endpoint knows, such as Salesforce's ``{instance_url}`` or
Zoho's ``{api_domain}``. Whoever enters it says that the token may go where the answer says. It goes there over TLS
only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote

import requests
from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from airflow_oauth_provider.exceptions import ConfigurationError
from airflow_oauth_provider.oauth2.client import is_secure
from airflow_oauth_provider.oauth2.redaction import show_url

_ASCII = "".join(map(chr, range(0x21, 0x7F)))
_DEFAULT_PORTS = {"http": 80, "https": 443}

# The beginning of an address in which no parser sees another host: pages of one API are then read once.
_PLAIN = re.compile(r"https?://[a-z0-9.-]+(?::[0-9]{1,5})?/(?=[!-\[\]-~]*\Z)")

Origin = tuple[str, str, int]


def normalize_url(url: str) -> str:
    """Return ``url`` as it is sent: its host in ASCII (RFC 5891), its path percent-encoded, no user in it.

    To be used before an address is checked, and what it returns is what is to be sent: two parsers of one text that
    disagree on its host would send the token past the check.

    :raises requests.RequestException: when it is no http or https URL.
    """
    request = requests.PreparedRequest()
    request.prepare_url(url, None)
    prepared = request.url or ""
    parts = parse_url(prepared)
    if parts.scheme not in _DEFAULT_PORTS or not parts.host:
        raise requests.exceptions.InvalidURL("the address is no http or https URL")
    return parts._replace(auth=None).url if parts.auth else prepared


def normalize_prepared(url: str) -> str:
    """Return what :func:`normalize_url` does, for a URL that ``requests`` has prepared: most need nothing more."""
    return url if _PLAIN.match(url) else normalize_url(url)


def decode_field(value: str) -> str:
    """Return the address that a header field holds: UTF-8, else bytes that are percent-encoded as they are.

    :param value: as ``http.client`` gives it, in Latin-1.
    """
    # Blanks around a value are none of it (RFC 9110 section 5.5); http.client leaves those at its end.
    raw = value.strip(" \t").encode("latin-1", errors="replace")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return quote(raw, safe=_ASCII)


def origin_of(url: str) -> Origin | None:
    """Return scheme, host and port of ``url`` (RFC 6454 section 4), or None where it has none."""
    plain = _PLAIN.match(url)
    return _read_origin(plain[0] if plain else url)


@lru_cache(maxsize=64)
def _read_origin(url: str) -> Origin | None:
    try:
        parts = parse_url(normalize_url(url))
    except (requests.RequestException, LocationParseError, ValueError):
        return None
    scheme, host = str(parts.scheme), str(parts.host).strip("[]").rstrip(".").lower()
    return (scheme, host, parts.port or _DEFAULT_PORTS[scheme]) if host else None


def upgrade_origin(origin: Origin) -> Origin:
    """Return where ``origin`` is when the same server is reached over TLS: nobody learns more of a token there."""
    scheme, host, port = origin
    return ("https", host, 443 if port == _DEFAULT_PORTS["http"] else port) if scheme == "http" else origin


def show_origin(origin: Origin) -> str:
    """Return ``origin`` as people write it."""
    scheme, host, port = origin
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}" + ("" if port == _DEFAULT_PORTS[scheme] else f":{port}")


def parse_allowed(entry: str) -> Origin | None:
    """Return the origin that an entry of ``allowed_hosts`` names; a bare host means https.

    :param entry: ``files.example.com``, ``files.example.com:8443`` or ``https://files.example.com``.
    :return: None where it names none; a wildcard names no host.
    """
    return None if "*" in entry else origin_of(entry if "://" in entry else f"https://{entry}")


_NAME = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


def is_template(host: str) -> bool:
    """Tell whether ``host`` has names in braces."""
    return _NAME.search(host) is not None


def fill_template(conn_id: str, template: str, members: Mapping[str, Any]) -> str:
    """Return the base URL.

    :param template: a host with names in braces.
    :param members: the members of the token endpoint's answer, without secrets.
    :raises ConfigurationError: when a member is missing, or the result is no https URL.
    """

    def member(match: re.Match[str]) -> str:
        value = members.get(match[1])
        if not isinstance(value, str) or not value:
            there = ", ".join(sorted(name for name, known in members.items() if isinstance(known, str))) or "none"
            raise ConfigurationError(
                f"its host is {template!r}, but the last response of the token endpoint has no text under "
                f"{match[1]!r}. It has: {there}. (Tokens in a variable in clear never say where the API is.)",
                conn_id=conn_id,
            )
        return value.rstrip("/")

    url = _NAME.sub(member, template)
    if "://" not in url:
        url = f"https://{url}"
    if not is_secure(url):
        raise ConfigurationError(
            f"its host {template!r} comes to {show_url(url)!r}, where the token may not go: it has to be an https URL.",
            conn_id=conn_id,
        )
    return url.rstrip("/")
