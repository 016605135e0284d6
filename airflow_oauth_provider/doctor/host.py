"""The API's host: whether it answers. Neither the token nor the connection's headers are sent."""

from __future__ import annotations

import requests

from airflow_oauth_provider.connection import address
from airflow_oauth_provider.connection.settings import Settings
from airflow_oauth_provider.doctor.report import Report
from airflow_oauth_provider.exceptions import ConfigurationError
from airflow_oauth_provider.http.errors import failure_text
from airflow_oauth_provider.http.session import OAuth2Session
from airflow_oauth_provider.oauth2 import deadline
from airflow_oauth_provider.tokens import precedence
from airflow_oauth_provider.tokens.configuration import Snapshot

CHECK = "host"


def check(report: Report, settings: Settings, snapshot: Snapshot | None = None, patience: float | None = None) -> None:
    """Send one request without a token; any status means that name, TLS and proxy are right.

    :param snapshot: the values for a host with names in braces; None: such a host is not checked.
    :param patience: seconds that the request may take at most; None: the connection's timeout.
    """
    url = _url(report, settings, snapshot)
    if not url or settings.http_options["srv_lookup"]:
        return
    transport = settings.transport
    timeout = transport.timeout if patience is None else min(transport.timeout, patience)
    with OAuth2Session(timeout) as session:
        session.auth = _leave_alone  # or requests would look into .netrc
        session.verify, session.cert, session.trust_env = transport.verify, transport.cert, transport.trust_env
        session.proxies = dict(transport.proxies)
        for scheme in ("https://", "http://"):
            session.mount(scheme, deadline.Adapter(carries_secrets=False))
        try:
            with deadline.exchange(timeout):
                status = session.head(url, allow_redirects=False).status_code
        except (requests.RequestException, OSError) as error:
            text = failure_text("HEAD", url, error, report.conn_id)
            report.fail(CHECK, text, "Check the field 'host', the network, the proxy and the certificates.")
            return
    report.ok(CHECK, f"the API's host answers (status {status} without a token)")


def _url(report: Report, settings: Settings, snapshot: Snapshot | None) -> str:
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
        report.fail(CHECK, str(error), "Check the name in braces.")
        return ""


def _leave_alone(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request
