"""Calls this provider's plugin in Airflow's API server."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit, urlunsplit

from airflow_oauth_provider.compat import connections, masking, sdk
from airflow_oauth_provider.exceptions import StoreNotWritable, StoreUnavailable

if TYPE_CHECKING:
    import requests

    from airflow_oauth_provider.compat.sdk import Connection

log = logging.getLogger(__name__)

#: Where the plugin's application is mounted, and its one route.
URL_PREFIX = "/oauth2-token-store"
ROUTE = "/connections/{connection_id}/token-record"
#: Its reason for a connection that is not of the type ``oauth2``.
OTHER_TYPE = "not_an_oauth2_connection"

#: Seconds to connect, and to wait for an answer.
TIMEOUT = (5.0, 15.0)
#: Seconds before its end at which a login is not used any more.
_LOGIN_MARGIN = 30.0
#: Seconds for which a login without an end of its own is used.
_LOGIN_LIFETIME = 600.0

#: Logins of this process, so that not every refresh logs in: base URL, user -> token, when it ends.
_logins: dict[tuple[int, str, str], tuple[str, float]] = {}
_logins_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class PutAnswer:
    """What the route said.

    :param version: of the record that the row holds now.
    :param stale: nothing was written, the row holds another version.
    :param missing: the metadata database has no such connection.
    """

    version: str | None
    stale: bool = False
    missing: bool = False


class ApiClient:
    """Speaks to the API server with the credentials of an Airflow connection.

    The connection is of any type. Its host (with port, schema as ``http`` or ``https``, and a path where the
    API server has one) is the address; login and password are exchanged for a token at ``/auth/token``; a
    password without login is a bearer token itself. In its extra, ``verify`` is true, false or the path of a
    CA bundle, and ``timeout`` a number of seconds.

    :param api_conn_id: that connection.
    """

    def __init__(self, api_conn_id: str) -> None:
        self._api_conn_id = api_conn_id

    def put_record(self, conn_id: str, record: str, if_version: str | None) -> PutAnswer:
        """Replace the record of ``conn_id``.

        :raises StoreNotWritable: the route is not there, or refuses for good.
        :raises StoreUnavailable: the API server cannot be reached, or refuses for now.
        """
        access = _Access.from_connection(self._connection(), self._api_conn_id)
        url = access.base_url + URL_PREFIX + ROUTE.format(connection_id=quote(conn_id, safe=""))
        body = {"record": record, "if_version": if_version}
        response = access.request("PUT", url, body, token=access.bearer())
        if response.status_code in (401, 403) and access.login:
            # 401: the login has ended. 403 is also what 3.0 and 3.1 say to one signed with an older key.
            response = access.request("PUT", url, body, token=access.bearer(anew=True))
        return self._judge(response, conn_id)

    def _connection(self) -> Connection:
        try:
            return connections.get_connection(self._api_conn_id)
        except sdk.AirflowNotFoundException:
            raise StoreNotWritable(
                f"Writing tokens into a connection needs the Airflow connection {self._api_conn_id!r} with address "
                "and credentials of Airflow's API server, and it is not defined. Define it, or set 'store' to "
                "'variable' or 'vault'."
            ) from None

    def _judge(self, response: requests.Response, conn_id: str) -> PutAnswer:
        status = response.status_code
        answer = _json(response)
        detail = answer.get("detail")
        detail = detail if isinstance(detail, dict) else {}
        reason = detail.get("reason")
        if status == 200 and isinstance(answer.get("version"), str):
            return PutAnswer(answer["version"])
        if status == 412:
            return PutAnswer(detail.get("version"), stale=True)
        if status == 404 and reason == "connection_not_found":
            return PutAnswer(None, missing=True)
        raise self._refusal(status, detail, conn_id)

    def _refusal(self, status: int, detail: dict[str, Any], conn_id: str) -> StoreNotWritable | StoreUnavailable:
        """Return the error for an answer that says that nothing was written."""
        if status == 401:
            return StoreUnavailable(
                f"Airflow's API server does not accept the credentials of the connection {self._api_conn_id!r}."
            )
        if status == 403:
            return StoreUnavailable(
                f"The user of the connection {self._api_conn_id!r} may not edit the connection {conn_id!r}. Give it "
                "the right 'can edit on Connections' (PUT) in Airflow's auth manager."
            )
        if detail.get("reason") == OTHER_TYPE:
            return StoreNotWritable(
                f"In Airflow's metadata database the connection {conn_id!r} is not of the type 'oauth2', and the "
                f"API server writes tokens into no other. Set its type to 'oauth2', or its 'store' to 'variable' "
                "or 'vault'."
            )
        if status in (404, 405):
            return StoreNotWritable(
                "Airflow's API server does not have the route of this provider's plugin. Install the provider where "
                "the API server runs, restart it, and see that 'airflow plugins' there lists oauth2_token_store, and "
                "that its configuration does not turn the route off ([oauth2] token_store_route). Check the address "
                f"in the connection {self._api_conn_id!r} too."
            )
        if status == 429 or status >= 500 or status == 408:
            return StoreUnavailable(f"Airflow's API server answered with HTTP status {status}.")
        return StoreNotWritable(
            f"Airflow's API server refused the record of {conn_id!r} with HTTP status {status}"
            + (f": {detail['message']}" if isinstance(detail.get("message"), str) else ".")
        )


@dataclass(frozen=True, slots=True)
class _Access:
    """Where the API server is and how to get in."""

    base_url: str
    login: str | None
    password: str
    verify: bool | str
    timeout: tuple[float, float]
    api_conn_id: str

    def __repr__(self) -> str:
        return f"_Access(base_url={self.base_url!r}, login={self.login!r})"

    @classmethod
    def from_connection(cls, connection: Connection, api_conn_id: str) -> _Access:
        masking.mask_secret(connection.password)
        if not connection.host or not connection.password:
            missing = "host" if not connection.host else "password"
            raise StoreNotWritable(
                f"The Airflow connection {api_conn_id!r} has no {missing}. It needs the API server's address, and a "
                "login with password, or a bearer token as password."
            )
        extra = _extra(connection, api_conn_id)
        timeout = extra.get("timeout")
        seconds = float(timeout) if isinstance(timeout, int | float) and timeout > 0 else None
        return cls(
            base_url=_base_url(connection),
            login=connection.login or None,
            password=connection.password,
            verify=_verify(extra.get("verify")),
            timeout=(seconds, seconds) if seconds else TIMEOUT,
            api_conn_id=api_conn_id,
        )

    def bearer(self, *, anew: bool = False) -> str:
        """Return a token for the API server, from a login of this process where there is one."""
        if self.login is None:
            return self.password
        # A fork has its parent's memory but not its rights to be one user with it: keyed by process.
        key = (os.getpid(), self.base_url, self.login)
        with _logins_lock:
            token, ends = _logins.get(key, ("", 0.0))
        if token and not anew and time.time() < ends - _LOGIN_MARGIN:
            return token
        token = self._log_in()
        with _logins_lock:
            _logins[key] = (token, _end_of(token))
        return token

    def _log_in(self) -> str:
        body = {"username": self.login, "password": self.password}
        response = self.request("POST", self.base_url + "/auth/token", body)
        token = _json(response).get("access_token")
        if response.ok and isinstance(token, str) and token:
            masking.mask_secret(token)
            return token
        if response.status_code in (404, 405):
            raise StoreNotWritable(
                f"There is no /auth/token at the address in the connection {self.api_conn_id!r}. Correct the address "
                "(the API server's, with its path if it has one); or, if the auth manager does not issue tokens for "
                "passwords, leave the login empty and enter a bearer token as password."
            )
        raise StoreUnavailable(
            f"The login at Airflow's API server with the connection {self.api_conn_id!r} failed with HTTP status "
            f"{response.status_code}."
        )

    def request(self, method: str, url: str, body: dict[str, Any], token: str | None = None) -> requests.Response:
        """Send one request.

        :raises StoreUnavailable: no answer came. Its cause is not chained: it could quote the request.
        """
        import requests

        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            return requests.request(
                method,
                url,
                json=body,
                headers=headers,
                auth=_no_netrc,
                verify=self.verify,
                timeout=self.timeout,
                allow_redirects=False,
            )
        except requests.RequestException as error:
            raise StoreUnavailable(
                f"Airflow's API server did not answer ({type(error).__name__}); its address is in the connection "
                f"{self.api_conn_id!r}."
            ) from None


def _no_netrc(request: Any) -> Any:
    """Keep requests from replacing the Authorization header by what ~/.netrc has for the host."""
    return request


def _json(response: requests.Response) -> dict[str, Any]:
    try:
        answer = response.json()
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _extra(connection: Connection, api_conn_id: str) -> dict[str, Any]:
    # Not extra_dejson: that makes a mask of every value whose key looks secret.
    try:
        extra = json.loads(connection.extra or "{}")
    except ValueError:
        extra = None
    if not isinstance(extra, dict):
        raise StoreNotWritable(f"The extra of the Airflow connection {api_conn_id!r} is not a JSON object.")
    return extra


def _verify(value: Any) -> bool | str:
    if isinstance(value, str) and value.strip().lower() in ("", "true", "yes", "1"):
        return True
    if isinstance(value, str) and value.strip().lower() in ("false", "no", "0"):
        return False
    return True if value is None else value if isinstance(value, bool | str) else bool(value)


def _base_url(connection: Connection) -> str:
    host = connection.host or ""
    if "://" not in host:
        host = f"{connection.schema or 'http'}://{host}"
    parts = urlsplit(host)
    netloc = parts.netloc
    if connection.port and parts.port is None:
        netloc += f":{connection.port}"
    return urlunsplit((parts.scheme, netloc, parts.path.rstrip("/"), "", ""))


def _end_of(token: str) -> float:
    """Return when a JWT ends, in seconds since the epoch. It is ours to use, not to verify."""
    import jwt

    try:
        ends = jwt.decode(token, options={"verify_signature": False}).get("exp")
    except jwt.InvalidTokenError:
        ends = None
    return float(ends) if isinstance(ends, int | float) else time.time() + _LOGIN_LIFETIME
