"""Settings of the deployment: the section ``[oauth2]`` of ``airflow.cfg``, read here and nowhere else.

To add one, write a row of :data:`OPTIONS`, a function below it, and a row of the table in ``docs/deployment.md``. The
provider info makes its section ``config`` of the table. Airflow's own Fernet key is read here, too.

Airflow is imported only when a setting is read: the provider info must not import it.
"""

from __future__ import annotations

import base64
import logging
import os
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_oauth_provider.exceptions import ConfigurationError

log = logging.getLogger(__name__)

SECTION = "oauth2"


@dataclass(frozen=True, slots=True)
class Option:
    """One setting.

    :param name: its name in ``airflow.cfg``.
    :param description: what it means, with its unit, and what holds by default.
    :param default: the text that holds where nothing is set.
    :param kind: Airflow's word for its type: ``string``, ``boolean``, ``integer`` or ``float``.
    :param example: a value that could stand there.
    :param version_added: the first version of this package that knows it.
    """

    name: str
    description: str
    default: str = ""
    kind: str = "string"
    example: str | None = None
    version_added: str = "0.1.0"


OPTIONS: tuple[Option, ...] = (
    Option(
        "fallback_path",
        "Directory in which rotated tokens are kept while the store of a connection cannot be written, encrypted "
        "with a key that is made from the refresh token that was spent for them. Empty: a directory below "
        "AIRFLOW_HOME. All workers of a deployment should see the same one.",
        example="/opt/airflow/oauth2-fallback",
    ),
    Option(
        "callback_prefixes",
        "Python packages, with commas between them, from which a connection may name a callback that fetches its "
        "tokens. Empty: none.",
        example="my_company.oauth_callbacks",
    ),
    Option(
        "allowed_folders",
        "Folders, with commas between them, in which connections may name files: token files, client certificates, CA "
        "certificates. At the end of one, {conn_id} stands for the connection's id: for a folder, or a file with any "
        "extension, that no other connection may name. Empty: oauth2/{conn_id} below AIRFLOW_HOME. CA certificates "
        "may be anywhere in the folder around it, and in the system's own folders for them.",
        example="/opt/airflow/oauth2, /mnt/shared/oauth2",
    ),
    Option(
        "allowed_secrets",
        "Names of secrets that connections may keep tokens in, with commas between them, * for any characters and "
        "{conn_id} for the connection's id: paths in Vault below the mount point, names in AWS, Azure and Google "
        "Cloud. In Azure, names that are made of the connection's id are always allowed, and {conn_id} means nothing.",
        default="airflow/oauth2/{conn_id}, airflow/oauth2/{conn_id}/*, airflow-oauth2-{conn_id}",
        example="airflow/oauth2/{conn_id}, finance/tokens/*",
    ),
    Option(
        "allowed_endpoints",
        "Hosts of secret stores to which connections may send the worker's cloud identity, with commas between them "
        "and * for one part of a name.",
        default="secretmanager.googleapis.com, secretmanager.*.rep.googleapis.com, secretmanager-*.p.googleapis.com, "
        "*.vault.azure.net, *.vault.azure.cn, *.vault.usgovcloudapi.net",
        example="*.vault.azure.net",
    ),
    Option(
        "allowed_connections",
        "Airflow connections whose identity oauth2 connections may use at a secret store, with commas between them and "
        "* for any characters.",
        default="vault_default, aws_default, google_cloud_default, azure_default",
        example="vault_default, vault_finance",
    ),
    Option(
        "token_store_route",
        "key: the API server has the route by which tasks keep tokens in a connection, opened by the connection's own "
        "key. off: there is no such route, and each connection has to name another 'store'.",
        default="key",
        example="off",
    ),
    Option(
        "api_url",
        "Address at which tasks reach the API server that has this package. Empty: the one of the Execution API "
        "([core] execution_api_server_url without /execution), else [api] base_url. https; http only for this machine "
        "and for the host and port of the Execution API.",
        example="https://airflow.example.org",
    ),
    Option(
        "settle_time",
        "Seconds for which a refresh lease has to stay in a store without compare-and-set before it counts. Has to be "
        "longer than a write takes to become visible to every reader.",
        default="3.0",
        kind="float",
    ),
    Option(
        "listeners",
        "Functions to call, as package.module:function with commas between them, when a refresh token ends soon, "
        "when a person has to sign in again, when a grant works again and when new tokens did not reach their store. "
        "Empty: none.",
        example="my_company.oauth_notices:post_to_slack",
    ),
)

_BY_NAME = {option.name: option for option in OPTIONS}
_FLAGS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}  # as Airflow reads them


def allowed_folders() -> tuple[str, ...]:
    """Return the folders in which connections may name files; ``{conn_id}`` stands for the connection's id."""
    return _read_list("allowed_folders") or (os.path.join(airflow_home(), "oauth2", "{conn_id}"),)


def allowed_secrets() -> tuple[str, ...]:
    """Return patterns of the secrets that connections may keep tokens in; ``{conn_id}`` is the connection's id."""
    return _read_list("allowed_secrets")


def allowed_endpoints() -> tuple[str, ...]:
    """Return patterns of the hosts to which connections may send the worker's cloud identity."""
    return _read_list("allowed_endpoints")


def allowed_connections() -> tuple[str, ...]:
    """Return patterns of the Airflow connections whose identity connections may use at a secret store."""
    return _read_list("allowed_connections")


def airflow_home() -> str:
    """Return Airflow's folder."""
    return os.path.expanduser(os.environ.get("AIRFLOW_HOME", "~/airflow"))


def callback_prefixes() -> tuple[str, ...]:
    """Return the packages from which connections may name callbacks."""
    return _read_list("callback_prefixes")


def settle_time() -> float:
    """Return the seconds for which a lease has to stay in a store without compare-and-set before it counts."""
    text = _read_text("settle_time") or _BY_NAME["settle_time"].default
    try:
        seconds = float(text)
    except ValueError:
        seconds = float("nan")
    if not 0 <= seconds < float("inf"):
        raise _wrong("settle_time", text, "a number from 0 on")
    return seconds


def fallback_path() -> str:
    """Return the folder of the fallback store; empty for the one below AIRFLOW_HOME."""
    return _read_text("fallback_path")


def listeners() -> tuple[str, ...]:
    """Return the functions that are told of what concerns people, each as ``package.module:function``."""
    return _read_list("listeners")


def token_store_route() -> bool:
    """Tell whether the API server has the route of the token store."""
    text = _read_text("token_store_route") or "key"
    if text not in ("key", "off"):
        raise _wrong("token_store_route", text, "one of key, off")
    return text == "key"


def api_url() -> str:
    """Return the address at which tasks reach the API server that has this package; empty where it is not set."""
    return _read_text("api_url")


def server_urls() -> tuple[str, str, str, str]:
    """Return what says where the API server is: ``api_url``, and three settings of Airflow's own.

    :return: ``[oauth2] api_url``, ``[core] execution_api_server_url``, ``[edge] api_url`` (edge workers have that one
        alone), ``[api] base_url``; empty where not set.
    """
    airflows = (("core", "execution_api_server_url"), ("edge", "api_url"), ("api", "base_url"))
    execution_url, edge_url, base_url = (_read_airflows(section, name) for section, name in airflows)
    return api_url(), execution_url, edge_url, base_url


def api_certificate() -> str:
    """Return ``[api] ssl_cert``: a file of certificates that the API server's is checked with; empty for none."""
    return _read_airflows("api", "ssl_cert")


def multi_team() -> bool:
    """Tell whether teams share this deployment: ``[core] multi_team``, from Airflow 3.2 on."""
    return _FLAGS.get(_read_airflows("core", "multi_team").lower(), False)


def _read_airflows(section: str, name: str) -> str:
    from airflow_oauth_provider.compat.sdk import conf

    return (conf.get(section, name, fallback="") or "").strip()


# A setting that cannot be read is an error that names it, never its default.


def _read_text(name: str) -> str:
    from airflow_oauth_provider.compat.sdk import AirflowConfigException, conf

    try:
        text = conf.get(SECTION, name, fallback=_BY_NAME[name].default)
    except AirflowConfigException as error:  # the command or the secrets backend that has it failed
        raise _error(name, f"cannot be read ({type(error).__name__}). See the log of this process") from None
    return (text or "").strip()


def _read_list(name: str) -> tuple[str, ...]:
    return tuple(part for text in _read_text(name).split(",") if (part := text.strip()))


def _wrong(name: str, text: str, right: str) -> ConfigurationError:
    return _error(name, f"is {text!r}, but has to be {right}")


def _error(name: str, text: str) -> ConfigurationError:
    from airflow_oauth_provider.exceptions import ConfigurationError

    return ConfigurationError(f"airflow.cfg: {name} in the section [{SECTION}] {text}.")


@cache
def fernet_keys() -> list[str]:
    """Return Airflow's Fernet keys, the newest first; none where this process has not been given any.

    Tasks of Airflow 3 need none to run, but mostly share the configuration of the process that started them. Asked for
    once in a process: it may come from a command or from a secrets backend.
    """
    from airflow_oauth_provider.compat.sdk import AirflowConfigException, conf

    try:
        text = conf.get("core", "fernet_key", fallback="") or ""
    except AirflowConfigException as error:
        # A worker may share the configuration, but not the command that it names.
        log.debug("This process cannot read Airflow's Fernet key (%s)", type(error).__name__)
        return []
    return [key for part in text.split(",") if _is_fernet_key(key := part.strip())]


def _is_fernet_key(text: str) -> bool:
    """Tell a key from what the SDK of Airflow 3.2 and later gives where there is none: ``{FERNET_KEY}``, literally."""
    try:
        return len(base64.urlsafe_b64decode(text)) == 32
    except ValueError:
        return False
