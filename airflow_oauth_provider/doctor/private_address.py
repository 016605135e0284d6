"""Addresses that are not public, of which "Test connection" says next to nothing.

Whoever may test connections could else find out which ports of the API server's own network are open.
"""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit


def has_private_address(url: str) -> bool:
    """Tell whether the host of ``url`` has an address that is not public: loopback, link-local, private (RFC 6890).

    :param url: an http or https URL. A name that nobody knows has none.
    """
    try:
        host = urlsplit(url).hostname or ""
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM) if host else []
    except (OSError, ValueError):
        return False
    addresses = (ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found)
    return any(not (getattr(address, "ipv4_mapped", None) or address).is_global for address in addresses)
