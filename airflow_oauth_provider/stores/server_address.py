"""Where Airflow's API server is, and whether tokens may be sent there."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from airflow_oauth_provider.exceptions import ConfigurationError
from airflow_oauth_provider.oauth2.client import is_secure

#: The one setting to name in an error.
SETTING = "[oauth2] api_url"
#: What the URLs of two of Airflow's own settings end with, where the first one wins: an edge worker derives the address
#: of the Execution API from its own as this does (``apache-airflow-providers-edge3`` 5.1).
_EXECUTION, _EDGE = ("[core] execution_api_server_url", "/execution"), ("[edge] api_url", "/edge_worker/v1/rpcapi")


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """The base URL of the API server, without a slash at its end.

    :param url: the base URL.
    :param setting: the setting that says so.
    """

    url: str
    setting: str


def find_address(api_url: str, execution_url: str, edge_url: str, base_url: str) -> ServerAddress:
    """Return the address of the API server.

    What is sent there is what the Execution API shows to the same task. So its own origin is as good as it is to
    Airflow; any other has to be https, or this machine.

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
    parts: SplitResult = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
