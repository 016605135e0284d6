"""Where DNS says that an API is (SRV records, RFC 2782), held against where the token may go.

Whoever answers a DNS question must not choose who gets the token: a target is a host below the connection's own domain
or one that ``allowed_hosts`` lists, and a server below the own domain has to prove by its certificate that it speaks
for the connection's name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from requests.adapters import HTTPAdapter

from airflow_oauth_provider.exceptions import ApiError, ConfigurationError, name_connection


def domain_of(base_url: str) -> str:
    """Return the domain of an SRV name: ``api.example.com`` of ``https://_http._tcp.api.example.com``."""
    labels = (urlsplit(base_url).hostname or "").rstrip(".").split(".")
    while labels and labels[0].startswith("_"):
        labels.pop(0)
    return ".".join(labels)


def find_base_urls(conn_id: str, base_url: str, allows: Callable[[str], bool]) -> list[str]:
    """Return the base URLs of the servers that DNS names, in the order in which they are to be tried.

    :param base_url: the connection's, whose host is an SRV name such as ``_http._tcp.example.com``.
    :param allows: tells whether the token may go to a URL.
    :raises ApiError: when DNS does not answer.
    :raises ConfigurationError: when it names another host.
    """
    parts = urlsplit(base_url)
    domain = domain_of(base_url)
    if "." not in domain:
        raise ConfigurationError(
            "srv_lookup needs a host such as _http._tcp.example.com, with a domain.", conn_id=conn_id
        )
    urls = [f"{parts.scheme}://{host}:{port}" for host, port in _resolve(conn_id, parts.hostname or "")]
    for url in urls:
        host = urlsplit(url).hostname or ""
        if not is_below(host, domain) and not allows(url):
            raise ConfigurationError(
                f"DNS names {host} for {parts.hostname}, where the token may not go: it is not "
                f"below {domain}. If that host is right, add it to 'allowed_hosts' in the connection's extra.",
                conn_id=conn_id,
            )
    return urls


def is_below(host: str, domain: str) -> bool:
    """Tell whether ``host`` is ``domain`` or below it."""
    return host == domain or host.endswith(f".{domain}")


def _resolve(conn_id: str, name: str) -> list[tuple[str, int]]:
    try:
        import dns.exception
        import dns.resolver
    except ImportError:
        raise ConfigurationError(
            "srv_lookup needs the library dnspython: pip install 'airflow-oauth-provider[srv]'.", conn_id=conn_id
        ) from None
    try:
        records = dns.resolver.resolve(name, "SRV").rrset
        return [] if records is None else order_targets(records)
    except dns.exception.DNSException as error:
        raise ApiError(name_connection(conn_id, f"DNS has no SRV record of {name} ({type(error).__name__})")) from None


def order_targets(records: Any) -> list[tuple[str, int]]:
    """Return host and port of each record of an RRset: by priority, at random by weight among equals (RFC 2782)."""
    return [(str(record.target).rstrip(".").lower(), record.port) for record in records.processing_order()]


class CertifiedAdapter(HTTPAdapter):
    """Connects to servers whose certificate has to bear ``name``, not the name that they are reached by."""

    def __init__(self, name: str) -> None:
        self._name = name
        super().__init__()

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        """See ``requests.adapters.HTTPAdapter``."""
        super().init_poolmanager(*args, **options, server_hostname=self._name, assert_hostname=self._name)
