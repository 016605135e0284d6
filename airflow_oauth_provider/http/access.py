"""An ``oauth2`` connection as those need it who call its API: its settings, its tokens, its addresses."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from airflow_oauth_provider.compat import connections, masking
from airflow_oauth_provider.connection import address, credentials
from airflow_oauth_provider.connection.address import origin_of
from airflow_oauth_provider.connection.loader import ConnectionLoader
from airflow_oauth_provider.connection.notices import handle_event, log_what_to_do
from airflow_oauth_provider.connection.settings import Settings, read_settings
from airflow_oauth_provider.exceptions import ConfigurationError, OAuth2Error
from airflow_oauth_provider.http import srv
from airflow_oauth_provider.http.auth import OAuth2Auth
from airflow_oauth_provider.oauth2.redaction import is_secret_name
from airflow_oauth_provider.stores.fallback import open_fallback
from airflow_oauth_provider.tokens.decision import TokenRequirements, TokenResult
from airflow_oauth_provider.tokens.manager import TokenManager


class _OutspokenTokenManager(TokenManager):
    """Says what to do in a log line of its own where only a person can mend an error."""

    def __init__(self, conn_id: str, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._connection_name = conn_id

    def obtain(self, requirements: TokenRequirements) -> TokenResult:
        """Return a record whose access token meets ``requirements``; see :meth:`TokenManager.obtain`."""
        try:
            return super().obtain(requirements)
        except OAuth2Error as failure:
            log_what_to_do(failure, self._connection_name)
            raise


#: HttpHook's options as ``requests`` has them: what an option counts that is given as None.
_PLAIN: Mapping[str, Any] = {
    "timeout": None,
    "verify": True,
    "cert": None,
    "proxies": {},
    "trust_env": True,
    "stream": False,
    "allow_redirects": True,
    "max_redirects": 30,
    "check_response": True,
}
#: Other names of options.
_ALIASES = {"verify_ssl": "verify", "proxy": "proxies"}


class ApiAccess:
    """Reads the connection at first use, and makes each part once. Reading and refreshing may wait.

    :param auth_type: the class of :attr:`auth`.
    :param actor: who uses the connection, for the grant's history.
    :param default_host: the API's base URL where the connection has none; the token may go there.
    """

    def __init__(
        self, conn_id: str, auth_type: type[OAuth2Auth] = OAuth2Auth, actor: str = "", default_host: str = ""
    ) -> None:
        self.conn_id = conn_id
        self._default_host = default_host
        self._auth_type = auth_type
        self._actor = actor
        self._settings: Settings | None = None
        self._manager: TokenManager | None = None
        self._auth: OAuth2Auth | None = None
        self._base_url = ""

    @property
    def settings(self) -> Settings:
        """The connection, read and checked: raises ConfigurationError when it is wrong."""
        if self._settings is None:
            self._found = connections.find_connection(self.conn_id)
            try:
                self._settings = read_settings(self.conn_id, self._found.connection)
            except ConfigurationError as failure:
                log_what_to_do(failure, self.conn_id)
                raise
        return self._settings

    @property
    def tokens(self) -> TokenManager:
        """The connection's life cycle of tokens."""
        if self._manager is None:
            usage = self.settings.bearer_usage
            source = ConnectionLoader(self.conn_id, first=self._found)
            mask = usage.mask_with(masking.mask_secret)
            fallback = open_fallback()
            self._manager = _OutspokenTokenManager(
                self.conn_id, source, fallback, mask=mask, actor=self._actor, on_event=handle_event
            )
        return self._manager

    @property
    def auth(self) -> OAuth2Auth:
        """What authorizes the requests; may be given to other sessions."""
        if self._auth is None:
            settings = self.settings
            self._auth = self._auth_type(
                self.tokens, self.conn_id, settings.allowed_origins, settings.refresh_when, settings.bearer_usage
            )
            self._auth.private_headers = frozenset(credentials.find_private_headers(settings.headers))
        return self._auth

    @property
    def base_url(self) -> str:
        """The API's base URL; where it has names in braces, filled in from the last token response."""
        if not self._base_url:
            url = self.settings.base_url
            if not url and self._default_host:
                url = self._default_host if "://" in self._default_host else f"https://{self._default_host}"
                self.auth.allow(url)
            if not url:
                raise ConfigurationError("enter the API's base URL in the field 'host'.", conn_id=self.conn_id)
            if address.is_template(url):
                url = address.fill_template(self.conn_id, url, self.read_token_response())
                self.auth.allow(url)
            self._base_url = url
        return self._base_url

    def read_token_response(self) -> dict[str, Any]:
        """Return what else the token endpoint answered, such as Salesforce's ``instance_url``, without its secrets."""
        record = self.tokens.obtain(TokenRequirements()).record
        public = {"token_type": record.token_type, "scope": record.scope, **record.response_parameters}
        return {name: value for name, value in _without_secrets(public).items() if value is not None}

    def find_servers(self) -> list[str]:
        """Return the base URLs to try one after the other: that of the connection, or those that DNS names for it."""
        if not self.settings.http_options["srv_lookup"]:
            return [self.base_url]
        urls = srv.find_base_urls(self.conn_id, self.base_url, self._is_listed)
        for url in urls:
            self.auth.allow(url)
        return urls

    def certified_name(self, url: str) -> str | None:
        """Return the name that the certificate of a server found by DNS has to bear; None: that of its host."""
        if not self.settings.http_options["srv_lookup"] or self._is_listed(url):
            return None
        domain = srv.domain_of(self.base_url)
        return domain if srv.is_below(urlsplit(url).hostname or "", domain) else None

    def _is_listed(self, url: str) -> bool:
        return origin_of(url) in self.settings.allowed_origins

    @cached_property
    def _options(self) -> dict[str, Any]:
        names = ("timeout", "verify", "cert", "proxies", "trust_env")
        own = {name: getattr(self.settings.transport, name) for name in names}
        return own | {name: value for name, value in self.settings.http_options.items() if name != "srv_lookup"}

    def merge_options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return HttpHook's options: those of the call before those of the connection.

        :param given: an option that is None counts as ``requests`` has it, whatever the connection says.
        """
        options = dict(self._options)
        for key, value in given.items():
            name = _ALIASES.get(key, key)
            options[name] = _PLAIN.get(name) if value is None else value
        if isinstance(options["timeout"], list):  # of JSON, which has no pairs
            options["timeout"] = tuple(options["timeout"])
        if isinstance(options["proxies"], str):
            options["proxies"] = dict.fromkeys(("http", "https"), options["proxies"])
        return options


def join_url(base_url: str, endpoint: str | None) -> str:
    """Return the URL of ``endpoint``, with exactly one slash behind the base; a whole URL stays as it is."""
    if endpoint and endpoint.lower().startswith(("https://", "http://")):
        return endpoint
    return f"{base_url.rstrip('/')}/{endpoint.lstrip('/')}" if endpoint else base_url


def join_query(conn_id: str, data: Any, params: Any) -> Any:
    """Return the query of a GET, which may stand in ``data``, as with HttpHook, and in ``params``, as with requests.

    :raises ConfigurationError: when it stands in both, and one of them is no dictionary.
    """
    if not data or not params:
        return data or params
    if isinstance(data, Mapping) and isinstance(params, Mapping):
        return {**params, **data}
    raise ConfigurationError(
        "the query of a GET is given in 'data' and in 'params': give one of them, or both as dictionaries.",
        conn_id=conn_id,
    )


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_secrets(member) for name, member in value.items() if not is_secret_name(name)}
    return [_without_secrets(member) for member in value] if isinstance(value, list) else value
