"""``OAuth2Hook``: an HttpHook whose session stays authorized."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import requests
from airflow.providers.http.hooks.http import HttpHook
from requests.cookies import RequestsCookieJar
from requests_toolbelt.adapters.socket_options import TCPKeepAliveAdapter

from airflow_oauth_provider.compat import http_provider
from airflow_oauth_provider.connection.fields import CONN_TYPE, HOOK_NAME
from airflow_oauth_provider.connection.loader import ConnectionLoader
from airflow_oauth_provider.connection.notices import handle_event
from airflow_oauth_provider.connection.settings import Settings
from airflow_oauth_provider.exceptions import ConfigurationError
from airflow_oauth_provider.http.access import ApiAccess, join_query, join_url
from airflow_oauth_provider.http.auth import OAuth2Auth
from airflow_oauth_provider.http.body import settle_charset
from airflow_oauth_provider.http.errors import check_status, presentable
from airflow_oauth_provider.http.retry import RateLimit, RetryPolicy, Sender
from airflow_oauth_provider.http.session import OAuth2Session
from airflow_oauth_provider.http.srv import CertifiedAdapter
from airflow_oauth_provider.tokens.decision import TokenRequirements, TokenStatus
from airflow_oauth_provider.tokens.events import GrantEvent
from airflow_oauth_provider.tokens.manager import TokenManager

if TYPE_CHECKING:
    from requests.adapters import HTTPAdapter


def name_task() -> str:
    """Return the task that runs in this process, ``dag_id/task_id``; empty where none does."""
    names = [os.environ.get(f"AIRFLOW_CTX_{name}", "") for name in ("DAG_ID", "TASK_ID")]
    return "/".join(names) if all(names) else ""


#: Values of the first argument of ``HttpHook``, where this hook takes a connection.
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"})
#: Connections that an adapter keeps open by default.
_POOL = 10


class OAuth2Hook(HttpHook):
    """Calls an API with an access token that is kept fresh.

    The first two arguments may also come in the order of ``HttpHook``: ``OAuth2Hook("GET", "xero")``.

    :param oauth2_conn_id: connection of type ``oauth2``.
    :param method: HTTP method of :meth:`run`; None: POST.
    :param auth_type: a subclass of :class:`~airflow_oauth_provider.http.auth.OAuth2Auth`; seldom needed.
    :param tcp_keep_alive: whether TCP keep-alive is on.
    :param tcp_keep_alive_idle: seconds of silence before the first probe.
    :param tcp_keep_alive_count: probes without an answer after which a connection is dead.
    :param tcp_keep_alive_interval: seconds between probes.
    :param adapter: a transport adapter to mount instead.
    :param actor: who uses the connection, for the grant's history; None: the task of this process.
    """

    conn_name_attr = "oauth2_conn_id"
    default_conn_name = "oauth2_default"
    conn_type = CONN_TYPE
    hook_name = HOOK_NAME

    def __init__(
        self,
        oauth2_conn_id: str | None = None,
        method: str | None = None,
        auth_type: Any = None,
        tcp_keep_alive: bool = True,
        tcp_keep_alive_idle: int = 120,
        tcp_keep_alive_count: int = 20,
        tcp_keep_alive_interval: int = 30,
        adapter: HTTPAdapter | None = None,
        actor: str | None = None,
        *,
        http_conn_id: str | None = None,
    ) -> None:
        conn_id, method = _read_names(oauth2_conn_id, method, http_conn_id)
        conn_id = conn_id or self.default_conn_name
        if auth_type is not None and not (isinstance(auth_type, type) and issubclass(auth_type, OAuth2Auth)):
            raise ConfigurationError(
                "it authorizes requests by itself: leave auth_type out, or give a subclass of OAuth2Auth.",
                conn_id=conn_id,
            )
        self._auth_class: type[OAuth2Auth] = auth_type or OAuth2Auth
        self._actor = name_task() if actor is None else actor
        # The session of run(), one a thread, and whether run() is what asks get_conn() for it.
        self._kept = threading.local()
        self._sessions: list[OAuth2Session] = []
        self._cookies = RequestsCookieJar()
        super().__init__(
            method=method or "POST",
            http_conn_id=conn_id,
            auth_type=auth_type,
            tcp_keep_alive=tcp_keep_alive,
            tcp_keep_alive_idle=tcp_keep_alive_idle,
            tcp_keep_alive_count=tcp_keep_alive_count,
            tcp_keep_alive_interval=tcp_keep_alive_interval,
            adapter=adapter,
        )
        self._base_url_initialized = False  # HttpHook has it from 5.6 on
        #: How :meth:`run` sends: by default once, as ``HttpHook`` does.
        self.sending = Sender()

    @property
    def oauth2_conn_id(self) -> str:
        """The connection. With another one the hook begins anew: its settings, its token, its sessions."""
        return self.access.conn_id

    @oauth2_conn_id.setter
    def oauth2_conn_id(self, conn_id: str) -> None:
        self.close()
        self._cookies = RequestsCookieJar()
        self.base_url, self._srv_lookup_enabled = "", False
        #: The connection's settings, tokens and addresses.
        self.access = ApiAccess(conn_id, self._auth_class, self._actor, default_host=self.default_host)

    @property
    def http_conn_id(self) -> str:
        """The same, by the name that ``HttpHook`` has for it."""
        return self.oauth2_conn_id

    @http_conn_id.setter
    def http_conn_id(self, conn_id: str) -> None:
        self.oauth2_conn_id = conn_id

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the form's fields, for Airflow up to 3.1."""
        from airflow_oauth_provider.hooks.form import connection_form_widgets

        return connection_form_widgets()

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return how the form shows Airflow's own fields, for Airflow up to 3.1."""
        from airflow_oauth_provider.hooks.form import ui_field_behaviour

        return ui_field_behaviour()

    # -- tokens --------------------------------------------------------------------------------------------------

    def get_access_token(self, min_ttl: float = 0.0) -> str:
        """Return an access token that works now.

        :param min_ttl: seconds that it must still live; nine tenths of its lifetime at most.
        :raises ReauthorizationRequired: when a person has to sign in again.
        :raises OAuth2Error: when there is none for another reason.
        """
        return self.tokens.access_token(min_ttl=min_ttl)

    def refresh(self, force: bool = True, *, min_ttl: float = 0.0, coalesce_within: float = 0.0) -> TokenStatus:
        """Refresh the token and write what came back to the store.

        :param force: refresh although the token is fresh.
        :param min_ttl: seconds that the token must still live.
        :param coalesce_within: seconds within which another worker's refresh counts as this one.
        :return: what happened, with nothing secret in it.
        :raises ReauthorizationRequired: when a person has to sign in again.
        :raises OAuth2Error: when it failed for another reason and no token works.
        """
        demand = TokenRequirements(min_ttl=min_ttl, force=force, coalesce_within=coalesce_within)
        return self.tokens.obtain(demand).status

    def revoke(self, kind: str = "refresh_token") -> bool:
        """Revoke a token at the authorization server (RFC 7009).

        :param kind: ``refresh_token``, which ends the grant, so that a person has to sign in again; or
            ``access_token``, after which the next request refreshes, unless the server ends the grant with that as
            well, as RFC 7009 section 2.1 allows.
        :return: False where there was no such token.
        :raises OAuth2Error: when the server does not do it; the token may still exist.
        """
        from airflow_oauth_provider.tokens.revocation import revoke

        _ = self.settings
        # Read again: the first read may hold a refresh token that has been rotated since.
        done = revoke(ConnectionLoader(self.oauth2_conn_id), kind, actor=self._actor)
        if done and kind == "refresh_token":
            handle_event(GrantEvent("revoked", self.oauth2_conn_id, time.time(), self._actor))
        return done

    def get_token_response(self) -> dict[str, Any]:
        """Return what else the token endpoint answered, such as Salesforce's ``instance_url``, without its secrets."""
        return self.access.read_token_response()

    # -- requests ------------------------------------------------------------------------------------------------

    def get_conn(
        self, headers: dict[Any, Any] | None = None, extra_options: dict[str, Any] | None = None
    ) -> OAuth2Session:
        """Return a session that stays authorized; usable in a ``with`` statement, by one thread at a time.

        :param headers: sent with every request of the session.
        :param extra_options: HttpHook's options (``timeout`` in seconds, ``verify``, ``cert``, ``proxies``, …), which
            win over those of the connection.
        """
        if getattr(self._kept, "lent", False):
            return self._kept_session(extra_options or {})  # run() passes its headers with the request itself
        session = self._new_session()
        self._apply_options(session, extra_options or {})
        if headers:
            session.headers.update(headers)
        return session

    def run(
        self,
        endpoint: str | None = None,
        data: dict[str, Any] | str | None = None,
        headers: dict[str, Any] | None = None,
        extra_options: dict[str, Any] | None = None,
        **request_kwargs: Any,
    ) -> Any:
        """Send a request; see ``HttpHook.run``.

        All calls of one thread share a session and its connections, all calls share the cookies. Headers and options of
        one call do not reach the next. :meth:`close` closes the connections.

        :param endpoint: added to the connection's base URL; or a whole URL.
        :param data: parameters of a GET, the body of other methods.
        :param headers: of this request.
        :param extra_options: HttpHook's options, for this request.
        :param request_kwargs: passed on to ``requests.Request``; with a GET ``params`` may stand beside ``data``.
        :raises ForeignOrigin: when the request would carry the token where the connection does not allow it.
        :raises OAuth2Error: when there is no token.
        """
        if "params" in request_kwargs and self.method.upper() == "GET":
            data = join_query(self.oauth2_conn_id, data, request_kwargs.pop("params"))
        self._kept.lent = True
        try:
            return super().run(endpoint, data, headers, extra_options, **request_kwargs)
        except requests.RequestException as error:
            raise presentable(error, self.method, self.oauth2_conn_id, self.auth.bare) from None
        finally:
            self._kept.lent = False

    def run_and_check(
        self, session: requests.Session, prepped_request: requests.PreparedRequest, extra_options: dict[Any, Any]
    ) -> Any:
        """Send a prepared request, again if :attr:`sending` says so, and check the answer.

        :raises ApiError: when the answer is an error, unless ``check_response`` is false.
        """
        options: dict[str, Any] = dict(
            session.merge_environment_settings(
                prepped_request.url, session.proxies, session.stream, session.verify, session.cert
            )
        )
        # HttpHook.run passes the options that get_conn() merged; up to 5.3.0 only those of its caller.
        given = self.access.merge_options(extra_options)
        options["timeout"] = given["timeout"]
        options["allow_redirects"] = given.get("allow_redirects", True)
        response = self.sending.send(session, prepped_request, options, self.oauth2_conn_id)
        if given.get("check_response", True):
            self.check_response(response)
        settle_charset(response)
        return response

    def check_response(self, response: requests.Response) -> None:
        """Raise ApiError for an answer with an error status."""
        check_status(response, self.oauth2_conn_id)

    def close(self) -> None:
        """Close the connections that :meth:`run` kept, of all threads; the hook can be used again."""
        sessions, self._sessions = self._sessions, []
        self._kept = threading.local()
        for session in sessions:
            session.close()

    def url_from_endpoint(self, endpoint: str | None) -> str:
        """Return the URL of ``endpoint``; a whole URL stays as it is, and the token goes to allowed origins only."""
        if self.base_url and not self._srv_lookup_enabled:
            return join_url(self.base_url, endpoint)  # also one that a subclass has set
        return join_url(self.access.find_servers()[0], endpoint)

    def _kept_session(self, extra_options: Mapping[str, Any]) -> OAuth2Session:
        session: OAuth2Session | None = getattr(self._kept, "session", None)
        if session is None:
            session = self._kept.session = self._new_session()
            session.cookies = self._cookies
            self._sessions.append(session)
        self._apply_options(session, extra_options)
        return session

    def _new_session(self) -> OAuth2Session:
        settings = self.settings
        self._set_base_url(settings)
        session = OAuth2Session(settings.transport.timeout, allow_http=settings.allow_http)
        session.auth = self.auth
        session.headers.update({**settings.headers, **self.default_headers})
        self._configure_session_from_mount_adapters(session)
        return session

    def _apply_options(self, session: OAuth2Session, extra_options: Mapping[str, Any]) -> None:
        """Set every option anew, so that none of an earlier call remains."""
        options = self.access.merge_options(extra_options)
        session.timeout = options["timeout"]
        session.proxies = dict(options["proxies"])
        session.stream = options["stream"]
        session.verify = options["verify"]
        session.cert = options["cert"]
        session.max_redirects = options["max_redirects"]
        session.trust_env = options["trust_env"]
        self.merged_extra = options

    def test_connection(self) -> tuple[bool, str]:
        """Try the connection without spending a refresh token or writing: a test would lose what it rotates."""
        from airflow_oauth_provider.doctor.examination import try_connection

        return try_connection(self.oauth2_conn_id)

    def _set_base_url(self, connection: Any) -> None:  # noqa: ARG002 - HttpHook's signature
        """Take the base URL from the connection; HttpHook would take ``http`` for a host without a scheme."""
        self.base_url = self.access.base_url
        self._base_url_initialized = True
        self._srv_lookup_enabled = self.settings.http_options["srv_lookup"]
        if self._srv_lookup_enabled:
            http_provider.check_srv_lookup(self.oauth2_conn_id)

    def _get_srv_base_urls(self) -> list[str]:
        """Return the servers that DNS names and that may have the token; :meth:`run` tries them in this order."""
        urls = self.access.find_servers()
        session: OAuth2Session | None = getattr(self._kept, "session", None)
        for url in urls:
            name = self.access.certified_name(url)
            if session is not None and name is not None:
                session.mount(url, CertifiedAdapter(name))
        return urls

    # -- parts, made once ----------------------------------------------------------------------------------------

    @property
    def settings(self) -> Settings:
        """The connection, read and checked at first use: raises ConfigurationError when it is wrong."""
        return self.access.settings

    @property
    def tokens(self) -> TokenManager:
        """The connection's life cycle of tokens."""
        return self.access.tokens

    @property
    def auth(self) -> OAuth2Auth:
        """What authorizes the requests; may be given to other sessions."""
        return self.access.auth


def _read_names(first: str | None, second: str | None, by_name: str | None) -> tuple[str | None, str | None]:
    """Return connection and method, whichever came first; ``by_name`` is the connection given as ``http_conn_id``."""
    if by_name is not None:
        return (by_name, second or first) if _is_method(first) else (first or by_name, second)
    if second is None:
        return (None, first) if first in _METHODS else (first, None)
    return (second, first) if _is_method(first) and not _is_method(second) else (first, second)


def _is_method(name: str | None) -> bool:
    return name is not None and name.upper() in _METHODS


class TaskArguments(Protocol):
    """What an operator and a sensor have in common."""

    @property
    def oauth2_conn_id(self) -> str: ...  # noqa: D102

    method: str
    tcp_keep_alive: bool
    tcp_keep_alive_idle: int
    tcp_keep_alive_count: int
    tcp_keep_alive_interval: int
    max_retry_after: float
    retry_non_idempotent: bool


def hook_of(
    task: TaskArguments,
    attempts: int,
    *,
    auth_type: object = None,
    requests_per_second: float | None = None,
    spool: bool = False,
    width: int = 1,
    sleep: Callable[[float], None] = time.sleep,
    accepted: tuple[str, ...] = (),
    ends_at: float | None = None,
) -> OAuth2Hook:
    """Return a new hook for ``task``: a single session for all its requests, sent as its arguments say.

    :param attempts: see :class:`~airflow_oauth_provider.http.retry.RetryPolicy`, also for ``accepted`` and ``ends_at``.
    :param requests_per_second: see :class:`~airflow_oauth_provider.http.retry.RateLimit`.
    :param spool: see :class:`~airflow_oauth_provider.http.retry.Sender`, also for ``sleep``.
    :param width: how many requests may be on their way at once.
    """
    hook = OAuth2Hook(
        task.oauth2_conn_id,
        method=task.method,
        auth_type=auth_type,
        tcp_keep_alive=task.tcp_keep_alive,
        tcp_keep_alive_idle=task.tcp_keep_alive_idle,
        tcp_keep_alive_count=task.tcp_keep_alive_count,
        tcp_keep_alive_interval=task.tcp_keep_alive_interval,
    )
    if width > _POOL and task.tcp_keep_alive:
        # All threads share the adapter, whose pool is too small for them by default.
        hook.keep_alive_adapter = TCPKeepAliveAdapter(
            idle=task.tcp_keep_alive_idle,
            count=task.tcp_keep_alive_count,
            interval=task.tcp_keep_alive_interval,
            pool_maxsize=width,
        )
    policy = RetryPolicy(attempts, task.max_retry_after, task.retry_non_idempotent, accepted=accepted, ends_at=ends_at)
    throttle = RateLimit(requests_per_second, max_retry_after=task.max_retry_after)
    hook.sending = Sender(policy, throttle, spool=spool, sleep=sleep)
    return hook
