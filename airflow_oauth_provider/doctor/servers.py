"""What is asked over the network, without spending anything: the authorization server, and the host of the API."""

from __future__ import annotations

import ipaddress
import secrets
import time
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import requests

from airflow_oauth_provider.connection import address
from airflow_oauth_provider.connection.settings import Settings
from airflow_oauth_provider.doctor.report import Report
from airflow_oauth_provider.exceptions import ConfigurationError
from airflow_oauth_provider.http.errors import failure_text
from airflow_oauth_provider.http.session import OAuth2Session
from airflow_oauth_provider.oauth2 import deadline, dpop, errors
from airflow_oauth_provider.oauth2.client import STANDARD_CODES, Client
from airflow_oauth_provider.oauth2.discovery import discover
from airflow_oauth_provider.oauth2.redaction import show_url
from airflow_oauth_provider.oauth2.token_endpoint import request_token
from airflow_oauth_provider.oauth2.transport import HttpResponse, exchange
from airflow_oauth_provider.tokens import messages, precedence
from airflow_oauth_provider.tokens.configuration import GrantConfiguration, Snapshot
from airflow_oauth_provider.tokens.json_members import parse_object

DISCOVERY = "discovery"
BINDING = "DPoP"
ENDPOINT = "token endpoint"
CLOCK = "clock"
CLIENT = "client"
HOST = "host"

#: Seconds by which clocks may differ. Signed assertions are refused beyond some minutes, often less.
MOST_SKEW = 30.0
#: Where GitHub, and GitHub Enterprise, answer 404 to a client that they do not know, as one without a name.
_GITHUBS_PATH = "/login/oauth/access_token"
#: Where IPv6 leads to the addresses of IPv4 that are its last 32 bits (RFC 6052 section 2.1, RFC 8215).
_TRANSLATED = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))


def check_server(report: Report, configuration: GrantConfiguration) -> None:
    """Look at metadata, token endpoint, clock, and the key that tokens are bound to.

    Says nothing where a callback fetches the tokens and no server is named.
    """
    if not configuration.client.issuer and not configuration.client.token_url:
        return
    metadata = _check_discovery(report, configuration) if configuration.client.issuer else {}
    if metadata is None:
        return
    _check_binding(report, configuration, metadata)
    url = configuration.client.token_url or metadata.get("token_endpoint", "")
    answer = _check_endpoint(report, configuration, url)
    if answer is not None:
        _check_clock(report, answer)


def _check_discovery(report: Report, configuration: GrantConfiguration) -> dict[str, Any] | None:
    client = configuration.client
    try:
        metadata = discover(client.issuer, client.transport)
    except errors.NotConnected as failure:
        report.fail(DISCOVERY, str(failure), "Check 'issuer', or enter the token endpoint under 'oauth_url' instead.")
        return None
    report.ok(DISCOVERY, f"{show_url(client.issuer)} publishes its metadata, and names itself as the issuer")
    if client.token_url and client.token_url != metadata.token_endpoint:
        theirs, ours = show_url(metadata.token_endpoint), show_url(client.token_url)
        text = f"its token endpoint is {theirs}, but 'oauth_url' is {ours}, and that is used"
        report.warn(DISCOVERY, text, "Leave one of the two keys empty.")
    _check_offered(report, metadata.members, "token_endpoint_auth_methods_supported", "auth_method", client.auth_method)
    _check_offered(report, metadata.members, "grant_types_supported", "grant_type", configuration.grant_type)
    return metadata.members


def _check_offered(report: Report, members: dict[str, Any], name: str, key: str, value: str) -> None:
    offered = members.get(name)
    if isinstance(offered, list) and value not in offered:
        names = ", ".join(str(item) for item in offered)
        report.warn(DISCOVERY, f"the server does not list {value!r} for {key}", f"It lists: {names}.")


def _check_binding(report: Report, configuration: GrantConfiguration, members: dict[str, Any]) -> None:
    """Check whether the server takes proofs of such a key (RFC 9449 section 5.1)."""
    key = configuration.client.dpop_key
    if key is None:
        return
    prover = dpop.get_prover(key)
    report.ok(BINDING, f"tokens are bound to a key for {prover.algorithm}, known by its thumbprint {prover.thumbprint}")
    name = "dpop_signing_alg_values_supported"
    if members and name not in members:
        report.warn(BINDING, f"the server's metadata has no {name}", "Ask the vendor whether it knows DPoP (RFC 9449).")
    _check_offered(report, members, name, "dpop_private_key", prover.algorithm)


def _check_endpoint(report: Report, configuration: GrantConfiguration, url: str) -> HttpResponse | None:
    """Send a request without grant and credentials: the server has to refuse it, and nothing is spent."""
    headers = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
    try:
        answer = exchange(configuration.client.transport, "POST", url, headers, b"")
    except errors.OAuth2ProtocolError as failure:
        report.fail(ENDPOINT, str(failure), "Check the address, the network, the proxy and the certificates.")
        return None
    _judge(report, configuration, url, answer)
    return answer


def _judge(report: Report, configuration: GrantConfiguration, url: str, answer: HttpResponse) -> None:
    """Say whether a token endpoint has answered. The strongest evidence about the address comes first."""
    status, said = answer.status, f"{answer.endpoint} answered {answer.status} to an empty request"
    elsewhere = "Check the address in the vendor's documentation."
    if 300 <= status < 400:
        change = "Credentials do not follow redirects: enter the one that it leads to."
        report.fail(ENDPOINT, f"{said}: a redirect", change)
    elif status >= 500:
        report.warn(ENDPOINT, f"{said}: the server has trouble now")
    elif status == 429:
        text = f"{said}: it takes no more requests for now, so this check cannot tell whether it is a token endpoint"
        report.warn(ENDPOINT, text, "Run this again later.")
    elif status in (404, 405, 410) and not (_names_error(answer) and urlsplit(url).path == _GITHUBS_PATH):
        # Before the body: most APIs, too, answer in JSON that there is nothing at an address.
        report.fail(ENDPOINT, f"{said}: there is no token endpoint", elsewhere)
    elif _names_error(answer):
        secure = ", over TLS" if url.startswith("https:") else ""
        report.ok(ENDPOINT, f"{said} with an error as a token endpoint does{secure}")
    elif status < 300 and configuration.client.dialect.error_mark is None:
        report.fail(ENDPOINT, f"{said}: a token endpoint would have refused it; this is some other page", elsewhere)
    else:
        report.warn(ENDPOINT, f"{said}, but not as a token endpoint does", elsewhere)


def _names_error(answer: HttpResponse) -> bool:
    """Tell whether it has the member ``error`` of RFC 6749 section 5.2; some vendors send it with status 200."""
    return "error" in (parse_object(answer.body) or {})


def _check_clock(report: Report, answer: HttpResponse) -> None:
    try:
        theirs = parsedate_to_datetime(answer.headers["date"]).timestamp()
    except (KeyError, TypeError, ValueError):
        return
    skew = time.time() - theirs
    if abs(skew) > MOST_SKEW:
        text = f"this machine's clock is {abs(skew):.0f} seconds {'ahead of' if skew > 0 else 'behind'} the server's"
        change = (
            "Set the clock (NTP). Servers may refuse signed requests. Lifetimes go by the refreshing worker's clock."
        )
        report.warn(CLOCK, text, change)
    else:
        report.ok(CLOCK, "this machine's clock agrees with the server's")


def check_client(report: Report, configuration: GrantConfiguration, allowed: bool) -> None:
    """Ask the server about the client with a made-up refresh token; it refuses that, and nothing is spent.

    :param configuration: the connection; one with a callback or another grant is not checked.
    :param allowed: the connection's ``test_client``.
    """
    if configuration.callback or not configuration.rotates or report.has_failed(DISCOVERY, ENDPOINT):
        return
    if not allowed:
        report.warn(CLIENT, "client ID and client secret are not checked: 'test_client' is false", "")
        return
    try:
        known = _ask_about(configuration.client)
    except errors.InvalidRequestResponse as refusal:
        report.warn(CLIENT, f"whether the server accepts the client is not known: {refusal}")
    except errors.ErrorResponse as refusal:
        change = "" if refusal.code in STANDARD_CODES else "Is that the address of a token endpoint?"
        report.fail(CLIENT, str(messages.configuration_error(configuration, refusal)), change)
    except errors.UnexpectedResponse as failure:
        text = f"{failure}: a token endpoint refuses a made-up refresh token with an OAuth error"
        report.fail(CLIENT, text, "Check the address of the token endpoint in the vendor's documentation.")
    except errors.NotConnected as failure:
        report.fail(CLIENT, str(failure), "Check the address, the network, the proxy and the certificates.")
    except errors.OAuth2ProtocolError as failure:
        report.warn(CLIENT, f"whether the server accepts the client is not known now: {failure}", "Try again later.")
    else:
        if known:
            report.ok(CLIENT, "the server accepts the client (it refused a made-up refresh token, nothing was spent)")
        else:
            report.warn(CLIENT, "the server gives tokens for made-up refresh tokens, so it does not check the client")


def _ask_about(client: Client) -> bool:
    """Ask for a refresh with a made-up refresh token, and tell whether the server knows the client.

    A server authenticates the client before it looks at the refresh token (RFC 6749 section 6). So ``invalid_grant``
    says that the client is right, and ``invalid_client`` that it is wrong (section 5.2).

    :return: False: it gave a token for a refresh token that it never issued, which says nothing about the client.
    :raises OAuth2ProtocolError: every other answer.
    """
    made_up = secrets.token_urlsafe(32)
    try:
        request_token(replace(client, introspects=False), [("grant_type", "refresh_token"), ("refresh_token", made_up)])
    except errors.InvalidGrantResponse:
        return True
    return False


def check_host(
    report: Report, settings: Settings, snapshot: Snapshot | None = None, patience: float | None = None
) -> None:
    """Send one request without a token; any status means that name, TLS and proxy are right.

    :param snapshot: the values for a host with names in braces; None: such a host is not checked.
    :param patience: seconds that the request may take at most; None: the connection's timeout.
    """
    url = _base_url(report, settings, snapshot)
    if not url or settings.http_options["srv_lookup"]:
        return
    transport = settings.transport
    timeout = transport.timeout if patience is None else min(transport.timeout, patience)
    with OAuth2Session(timeout) as session:
        session.auth = lambda request: request  # or requests would look into .netrc
        session.verify, session.cert, session.trust_env = transport.verify, transport.cert, transport.trust_env
        session.proxies = dict(transport.proxies)
        for scheme in ("https://", "http://"):
            session.mount(scheme, deadline.Adapter(carries_secrets=False))
        try:
            with deadline.exchange(timeout):
                status = session.head(url, allow_redirects=False).status_code
        except (requests.RequestException, OSError) as error:
            text = failure_text("HEAD", url, error, report.conn_id)
            report.fail(HOST, text, "Check the field 'host', the network, the proxy and the certificates.")
            return
    report.ok(HOST, f"the API's host answers (status {status} without a token)")


def _base_url(report: Report, settings: Settings, snapshot: Snapshot | None) -> str:
    """Return the base URL; empty where there is none, or none yet."""
    url = settings.base_url
    if not url or not address.is_template(url):
        return url
    answer = precedence.current(snapshot.configuration, snapshot.record).response_parameters if snapshot else {}
    if not answer:
        return ""  # there was no refresh yet
    try:
        return address.fill_template(report.conn_id, url, answer)
    except ConfigurationError as error:
        report.fail(HOST, str(error), "Check the name in braces.")
        return ""


def has_private_address(url: str) -> bool:
    """Tell whether the host of ``url`` has an address that is not public: loopback, link-local, private (RFC 6890).

    :param url: an http or https URL. A name that cannot be resolved has none.
    """
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return False
    return any(not _is_public(found.partition("%")[0]) for found in deadline.find_addresses(host))


def _is_public(text: str) -> bool:
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if any(address in network for network in _TRANSLATED):
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        return (inner or address).is_global
    return address.is_global
