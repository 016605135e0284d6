"""Asks the plugin in Airflow's API server to replace the record of a connection, or to mint its record key.

What is sent there is what the Execution API shows to the same task. So the address that Airflow itself has for that API
is good enough; any other has to be https, or this machine.
"""

from __future__ import annotations

import json
import os
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import quote, urlsplit

import certifi
import requests

from airflow_oauth_provider.compat import deployment
from airflow_oauth_provider.compat.database import version_of
from airflow_oauth_provider.exceptions import ConfigurationError, StoreError, StoreNotWritable, StoreUnavailable
from airflow_oauth_provider.oauth2 import deadline
from airflow_oauth_provider.oauth2.client import is_secure
from airflow_oauth_provider.oauth2.times import read_server_time
from airflow_oauth_provider.stores import record_key
from airflow_oauth_provider.stores.record_key import KEY_ROUTE, RECORD_ROUTE, URL_PREFIX
from airflow_oauth_provider.tokens.json_members import parse_object

#: Seconds for one request, from looking up the name to the last byte of the answer.
TIMEOUT = 15.0
#: Seconds after which a name or address is given up that does not answer.
_CONNECT = 5.0
#: Bytes of an answer that are read; its own answers have a few hundred.
_MAX_ANSWER = 65_536
#: What Airflow tells a task about itself, in the order in which it is shown.
_TASK = ("AIRFLOW_CTX_DAG_ID", "AIRFLOW_CTX_DAG_RUN_ID", "AIRFLOW_CTX_TASK_ID", "AIRFLOW_CTX_TRY_NUMBER")
#: The one setting to name in an error.
SETTING = "[oauth2] api_url"
#: What the URLs of two of Airflow's own settings end with, where the first one wins: an edge worker derives the address
#: of the Execution API from its own as this does (``apache-airflow-providers-edge3`` 5.1).
_EXECUTION, _EDGE = ("[core] execution_api_server_url", "/execution"), ("[edge] api_url", "/edge_worker/v1/rpcapi")


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """The base URL of the API server, without a slash at its end, and the setting that says so."""

    url: str
    setting: str


def find_address(api_url: str, execution_url: str, edge_url: str, base_url: str) -> ServerAddress:
    """Return the address of the API server.

    :param api_url: ``[oauth2] api_url``; empty where it is not set, as the others.
    :param execution_url: ``[core] execution_api_server_url``.
    :param edge_url: ``[edge] api_url``, which edge workers have.
    :param base_url: ``[api] base_url``.
    :raises ConfigurationError: a setting is no such URL.
    """
    if base_url.startswith("/") or not base_url:
        base_url = f"http://localhost:8080{base_url}"  # as Airflow completes it
    if api_url:
        url = _check_url(api_url, SETTING)
        if not is_secure(url) and _origin(url) != _origin(execution_url or edge_url or base_url):
            raise ConfigurationError(
                f"{SETTING} has to be https: tokens are sent there. Plain http is for this machine, and for the host "
                "and port of the Execution API."
            )
        return ServerAddress(url, SETTING)
    for (setting, ending), url in ((_EXECUTION, execution_url), (_EDGE, edge_url)):
        if url:
            return ServerAddress(_remove_ending(_check_url(url, setting), setting, ending), setting)
    return ServerAddress(_check_url(base_url, "[api] base_url"), "[api] base_url")


def _remove_ending(url: str, setting: str, ending: str) -> str:
    if not url.endswith(ending):
        raise ConfigurationError(
            f"{setting} does not end with {ending!r}, so it does not say where Airflow's API server is. Set {SETTING} "
            "to its address."
        )
    return url.removesuffix(ending)


def _check_url(url: str, setting: str) -> str:
    try:
        parts = urlsplit(url.strip())
        right = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        more = "@" in parts.netloc or parts.query or parts.fragment
    except ValueError:
        right, more = False, ""
    if not right or more:
        raise ConfigurationError(
            f"{setting} has to be an address such as https://airflow.example.org, without user, query and fragment."
        )
    return url.strip().rstrip("/")


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def members(self) -> dict[str, Any]:
        return parse_object(self.body) or {}


class RecordRoute:
    """The route of one API server; without an address, of the one that Airflow's configuration names."""

    def __init__(self, address: ServerAddress | None = None) -> None:
        self.address = address or find_address(*deployment.server_urls())

    def put_record(self, conn_id: str, key: str, record: str, if_version: str | None) -> bool:
        """Replace the record of ``conn_id``.

        :param key: the connection's record key. It signs the request, and is not sent.
        :param record: the text of the new record.
        :param if_version: the version of the record that may be replaced; None: there must be none.
        :return: False where the row holds another version; nothing was changed then.
        :raises StoreNotWritable: the route is not there, or refuses for good.
        :raises StoreUnavailable: the API server cannot be reached, refuses for now, or the answer is not its own.
        """
        body = json.dumps({"record": record, "if_version": if_version, "task": _task()}).encode()
        signature = record_key.sign_request(key, "PUT", conn_id, body, now=time.time())
        answer = self._send("PUT", RECORD_ROUTE, conn_id, body, signature.headers())
        signed = answer.headers.get(record_key.SIGNATURE_FIELD, "")
        if record_key.is_answer_valid(signed, key, signature, answer.status, answer.body):
            return self._judge(answer, conn_id, version_of(record))
        if answer.status in (200, 412):
            # Not believed: a forged "done" would lose the tokens that are thought to be kept.
            raise StoreUnavailable(
                f"{self._server} answered for the connection {conn_id!r} without proof that it knows the connection's "
                f"record key. Is something else between? Check {SETTING}."
            )
        raise self._refusal(answer, conn_id)

    def request_key(self, conn_id: str) -> None:
        """Ask for a record key for ``conn_id``, if it is a row without one. The answer does not say whether it is.

        :raises StoreNotWritable: the route is not there.
        :raises StoreUnavailable: the API server cannot be reached, or refuses for now.
        """
        answer = self._send("POST", KEY_ROUTE, conn_id, b"", {})
        if answer.status != 202:
            raise self._refusal(answer, conn_id)

    def _judge(self, answer: _Answer, conn_id: str, version: str | None) -> bool:
        if answer.status == 200 and answer.members.get("version") == version:
            return True
        if answer.status == 412:
            return False
        reason, message = answer.members.get("reason"), answer.members.get("message", "")
        if answer.status == 409 and reason == "hidden":
            raise StoreNotWritable(
                f"Airflow's API server takes the connection {conn_id!r} from {message}, not from its metadata "
                "database, so its row is not what tasks read. Remove it there, or set 'store' to 'variable' or 'vault'."
            )
        if answer.status >= 500:
            raise StoreUnavailable(f"Airflow's API server could not write the connection {conn_id!r}: {message}")
        raise StoreNotWritable(
            f"Airflow's API server refused the record of the connection {conn_id!r} (HTTP status {answer.status}): "
            f"{message or 'its plugin is of another version than this one'}"
        )

    def _refusal(self, answer: _Answer, conn_id: str) -> StoreError | StoreNotWritable:
        """Return the error for an answer that nothing proves to be the route's own."""
        status = answer.status
        if status == 403:
            return StoreUnavailable(
                f"{self._server} does not accept the record key of the connection {conn_id!r}.{_skew(answer)} The "
                "connection that tasks read has to be the row of that server: not a copy in a secrets backend, and "
                "not of another deployment."
            )
        if status in (404, 405):
            return StoreNotWritable(
                f"{self._server} does not have the route of this provider's plugin. Install the provider where the "
                "API server runs, and restart it; see that [oauth2] token_store_route is not off there. A server that "
                f"was started with '--apps execution' has no plugins: set {SETTING} to the one that serves the UI. "
                "Else set 'store' in the connection to 'variable' or 'vault'."
            )
        if 300 <= status < 400:
            return StoreNotWritable(f"{self._server} answered with a redirect. Set {SETTING} to the final address.")
        if status in (408, 429) or status >= 500:
            return StoreUnavailable(f"{self._server} answered with HTTP status {status}.")
        return StoreNotWritable(f"{self._server} answered with HTTP status {status}. Check {SETTING}.")

    @property
    def _server(self) -> str:
        return f"Airflow's API server ({self.address.url}, from {self.address.setting})"

    def _send(self, method: str, route: str, conn_id: str, body: bytes, headers: Mapping[str, str]) -> _Answer:
        """Send one request, without following redirects.

        :raises StoreUnavailable: no answer came. Its cause is not chained: it could quote the request.
        """
        url = self.address.url + URL_PREFIX + route.format(connection_id=quote(conn_id, safe=""))
        headers = {**headers, "Content-Type": "application/json", "Content-Length": str(len(body))}
        try:
            with deadline.exchange(TIMEOUT) as bound, requests.Session() as session:
                # Proxies as for Airflow's own client, but no .netrc and no REQUESTS_CA_BUNDLE.
                session.trust_env, session.proxies = False, requests.utils.get_environ_proxies(url)
                for scheme in ("https://", "http://"):
                    session.mount(scheme, _Adapter())
                limits: dict[str, Any] = {"timeout": (_CONNECT, TIMEOUT), "allow_redirects": False, "stream": True}
                with session.request(method, url, data=body, headers=headers, **limits) as response:
                    content = _read(response)
                    if bound.is_over:
                        raise requests.ReadTimeout
                    names = {name.lower(): value for name, value in response.headers.items()}
                    return _Answer(response.status_code, names, content)
        except (requests.RequestException, OSError, ValueError) as error:
            raise StoreUnavailable(
                f"{self._server} did not answer ({type(error).__name__}). Tasks have to reach it: if that is the "
                f"wrong address for this worker, set {SETTING}."
            ) from None


class _Adapter(deadline.Adapter):
    """Trusts whom Airflow's own client trusts: the usual authorities, and ``[api] ssl_cert``."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """See ``requests.adapters.HTTPAdapter``."""
        super().init_poolmanager(*args, **kwargs, ssl_context=_tls_context(deployment.api_certificate()))


@cache
def _tls_context(certificate: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=certifi.where())
    if certificate:
        try:
            context.load_verify_locations(certificate)
        except OSError as error:
            raise ConfigurationError(f"[api] ssl_cert cannot be read ({error.strerror or 'no certificate'}).") from None
    return context


def _read(response: requests.Response) -> bytes:
    content = bytearray()
    for piece in response.iter_content(16384):
        content += piece
        if len(content) > _MAX_ANSWER:
            raise ValueError("the answer is too long")
    return bytes(content)


def _skew(answer: _Answer) -> str:
    apart = abs(read_server_time(answer.headers) - time.time())
    if apart <= record_key.TIME_WINDOW:
        return ""
    return f" The clocks of this machine and that server are {apart:.0f} seconds apart: correct them."


def _task() -> str:
    """Return what runs here, as Airflow tells it to tasks; empty outside of one. Nobody verifies it."""
    return "/".join(value for name in _TASK if (value := os.environ.get(name)))[:500]
