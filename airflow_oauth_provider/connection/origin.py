"""Which hosts may see the access token."""

from __future__ import annotations

from urllib.parse import urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}

Origin = tuple[str, str, int]


def origin_of(url: str) -> Origin | None:
    """Return scheme, host and port of ``url`` (RFC 6454 section 4), or None where it has none."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    scheme = parts.scheme.lower()
    if not host or scheme not in _DEFAULT_PORTS:
        return None
    return scheme, host.rstrip(".").lower(), port or _DEFAULT_PORTS[scheme]


def show_origin(origin: Origin) -> str:
    """Return ``origin`` as people write it."""
    scheme, host, port = origin
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}" + ("" if port == _DEFAULT_PORTS[scheme] else f":{port}")


def parse_allowed(entry: str) -> Origin | None:
    """Return the origin that an entry of ``allowed_hosts`` names; a bare host means https.

    :param entry: ``files.example.com``, ``files.example.com:8443`` or ``https://files.example.com``.
    """
    return origin_of(entry if "://" in entry else f"https://{entry}")
