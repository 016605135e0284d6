"""The fields of an ``oauth2`` connection: the one table that everything else is generated from.

The provider info (Airflow 3.2 and later), the hook's form methods (Airflow up to 3.1), the documentation
and the reading of a connection all start here. To add a key, add a row.

Two rules for a row:

* A key holds the letters ``token``, ``secret`` or ``password`` only if its value is a secret. Airflow
  decides by the key what to show as ``***``, and stars that value in every log from then on.
* Every key has a default that works, or may be left empty. A form stores all of its fields, the empty ones
  as ``null``, so whoever reads a connection takes ``null``, ``""`` and :data:`MASK` for "not set". Forms
  show a default but do not fill it in: a default that was stored could not be told from a choice.

Airflow reads this module each time it lists its providers: it imports nothing but the standard library.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Kind = Literal["string", "password", "boolean", "integer", "number", "object", "list"]
"""What a value is. A ``list`` is text with commas between the items, in forms and in the stored value."""

Default = str | int | float | bool | None

CONN_TYPE = "oauth2"
HOOK_NAME = "OAuth 2.0"

MASK = "***"
"""What Airflow shows in place of a secret, and sends back unchanged when a form is saved."""

RECORD_KEY = "token_record"
"""The key under which the ``connection`` store keeps the rotated tokens; see the last row of the table."""

SERVER = "Authorization server"
GRANT = "Grant and scope"
TOKENS = "First tokens"
REFRESH = "When to refresh"
STORE = "Where new tokens are kept"
API = "API calls"
TRANSPORT = "Network"


@dataclass(frozen=True, slots=True)
class Field:
    """One key of the connection's ``extra``.

    :param key: the key in ``extra``.
    :param title: its label in the form; it must make sense without the section, which older forms do not show.
    :param section: the group of the form that it stands in.
    :param kind: what the value is.
    :param default: what holds when the connection does not say; ``None`` for nothing.
    :param choices: the values allowed, when they are few: a drop-down.
    :param secret: whether the value is to be hidden.
    :param help: one or two plain sentences for a person who fills in the form, without default and example.
    :param unset: what an empty field means, in words, where ``default`` does not say it.
    :param minimum: the least number allowed.
    :param maximum: the greatest number allowed.
    :param placeholder: an example.
    :param in_form: whether the form has a field for it; other keys are set in the JSON of ``extra``.
    :param kept: whether the program writes it and no person does: part of the form, but out of sight.
    """

    key: str
    title: str
    section: str
    kind: Kind
    default: Default = None
    choices: tuple[str, ...] = ()
    secret: bool = False
    help: str = ""
    unset: str = ""
    minimum: float | None = None
    maximum: float | None = None
    placeholder: str = ""
    in_form: bool = True
    kept: bool = False

    @property
    def default_text(self) -> str:
        """The default as a person would type it, ``""`` where there is none."""
        if self.default is None:
            return ""
        return str(self.default).lower() if isinstance(self.default, bool) else str(self.default)

    @property
    def description(self) -> str:
        """The whole help text: what it is, its default, an example."""
        parts = [self.help]
        if not self.kept and (default := self.default_text or self.unset):
            parts.append(f"Default: {default}.")
        if self.placeholder:
            parts.append(f"Example: {self.placeholder}")
        return " ".join(parts)


@dataclass(frozen=True, slots=True)
class StandardField:
    """One of the columns that every Airflow connection has.

    :param name: Airflow's name of the column.
    :param title: its label for this connection type; empty leaves Airflow's.
    :param placeholder: an example, shown in the empty field.
    :param hidden: whether the form leaves it out.
    """

    name: str
    title: str = ""
    placeholder: str = ""
    hidden: bool = False


STANDARD_FIELDS: tuple[StandardField, ...] = (
    StandardField("host", "API base URL", "https://api.example.com"),
    StandardField("login", "Client ID", "from the page where you registered your app"),
    StandardField("password", "Client secret", "from the same page; empty if your app has none"),
    # The base URL says scheme and port. A connection that has them anyway keeps them: hidden is not removed.
    StandardField("schema", hidden=True),
    StandardField("port", hidden=True),
)

FIELDS: tuple[Field, ...] = (
    Field(
        "oauth_url",
        "Token URL",
        SERVER,
        "string",
        placeholder="https://login.example.com/oauth/token",
        help="The address that hands out tokens, as the vendor's documentation gives it. "
        "Fill in this field or the issuer.",
    ),
    Field(
        "issuer",
        "Issuer",
        SERVER,
        "string",
        placeholder="https://login.example.com",
        help="In place of the token URL: the address of the sign-in service. The token URL is looked up there.",
    ),
    Field(
        "auth_method",
        "Client authentication",
        SERVER,
        "string",
        default="client_secret_basic",
        choices=("client_secret_basic", "client_secret_post", "none"),
        help="How client ID and client secret are sent. client_secret_basic: in a header. client_secret_post: in "
        "the body. none: for an app without a secret. If the server answers invalid_client, try another one.",
    ),
    Field(
        "grant_type",
        "Grant type",
        GRANT,
        "string",
        default="refresh_token",
        choices=("refresh_token", "client_credentials"),
        help="refresh_token: a person signed in once, and the app got a refresh token. "
        "client_credentials: the app signs in as itself, with client ID and client secret.",
    ),
    Field(
        "scope",
        "Scope",
        GRANT,
        "string",
        placeholder="offline_access invoices.read",
        unset="what was granted at sign-in",
        help="What the token may do: names with spaces between them.",
    ),
    Field(
        "audience",
        "Audience",
        GRANT,
        "string",
        unset="not sent",
        help="Which API the token is for. Only for vendors that ask for it, such as Auth0.",
    ),
    Field(
        "resource",
        "Resource",
        GRANT,
        "string",
        unset="not sent",
        help="Which API the token is for, as a URL. Only for vendors that ask for it.",
    ),
    Field(
        "refresh_token",
        "Refresh token",
        TOKENS,
        "password",
        secret=True,
        help="What you got when you signed in. The program spends it once and keeps its successors; this field "
        "stays as it is. To sign in anew, enter the new one. Not needed for client_credentials.",
    ),
    Field(
        "access_token",
        "Access token",
        TOKENS,
        "password",
        secret=True,
        unset="one is fetched at first use",
        help="An access token that still works, if you have one.",
    ),
    Field(
        "expires_at",
        "Access token expires at",
        TOKENS,
        "string",
        placeholder="2030-01-31T12:00:00Z",
        unset="unknown",
        help="When the access token above stops working: a date, or seconds since 1970.",
    ),
    Field(
        "refresh_when",
        "Refresh when",
        REFRESH,
        "string",
        default="expired",
        choices=("expired", "always", "unauthorized", "interval", "never"),
        help="expired: shortly before the access token runs out, and when the API answers 401. "
        "always: before each task's first request. unauthorized: only when the API answers 401. "
        "interval: at fixed times. never: use the access token as it is.",
    ),
    Field(
        "refresh_interval",
        "Refresh interval (seconds)",
        REFRESH,
        "number",
        minimum=1,
        help="For Refresh when = interval, and needed there: how old an access token may become.",
    ),
    Field(
        "leeway",
        "Refresh early by (seconds)",
        REFRESH,
        "number",
        default=60,
        minimum=0,
        help="How long before its end an access token is replaced.",
    ),
    Field(
        "min_refresh_interval",
        "Wait between refreshes (seconds)",
        REFRESH,
        "number",
        minimum=0,
        unset="no wait",
        help="For vendors that refuse a refresh soon after the last one.",
    ),
    Field(
        "resend_lost_answer",
        "Resend after a lost answer",
        REFRESH,
        "boolean",
        default=True,
        help="If the answer to a refresh never arrives, send the same refresh token once more. Choose false for "
        "servers that end the grant when they see a refresh token twice.",
    ),
    Field(
        "store",
        "Token store",
        STORE,
        "string",
        default="auto",
        choices=("auto", "connection", "variable", "vault", "file"),
        help="connection: in this connection. variable: in an Airflow Variable. vault: in HashiCorp Vault or "
        "OpenBao. file: in a JSON file. auto: in this connection if it can be written, else in a Variable.",
    ),
    Field(
        "vault_conn_id",
        "Vault connection ID",
        STORE,
        "string",
        placeholder="vault_default",
        help="For Token store = vault, and needed there: the Airflow connection of type Hashicorp Vault.",
    ),
    Field(
        "vault_path",
        "Vault path",
        STORE,
        "string",
        placeholder="airflow/oauth2/xero",
        help="For Token store = vault: where the tokens are kept, without the mount point.",
    ),
    Field(
        "vault_mount_point",
        "Vault mount point",
        STORE,
        "string",
        placeholder="kv",
        unset="the one of the Vault connection",
        help="For Token store = vault: the secrets engine.",
    ),
    Field(
        "file_path",
        "Token file",
        STORE,
        "string",
        placeholder="/opt/airflow/accounts/xero.json",
        help="For Token store = file, and needed there: the JSON file with the tokens. It has to exist, and all "
        "workers have to see the same one.",
    ),
    Field(
        "file_map",
        "Places in the token file",
        STORE,
        "list",
        placeholder="client_id=$.app.id, client_secret=$.app.key, refresh_token=$.tokens[0].refresh",
        unset="client_id, client_secret, refresh_token, access_token and expires_at at the top level",
        in_form=False,
        help="For Token store = file: where things stand in it, as name=JSONPath.",
    ),
    Field(
        "api_conn_id",
        "Airflow API connection ID",
        STORE,
        "string",
        default="airflow_api",
        help="For Token store = connection on Airflow 3: the Airflow connection with which tasks reach "
        "Airflow's own API server.",
    ),
    Field(
        "allowed_hosts",
        "Further hosts",
        API,
        "list",
        placeholder="https://files.example.com",
        unset="none",
        help="The access token goes to the API base URL only. Other addresses that may get it, "
        "with commas between them.",
    ),
    Field(
        "headers",
        "API headers",
        API,
        "object",
        placeholder='{"Accept": "application/json"}',
        unset="none",
        help="Headers for every API call, as a JSON object.",
    ),
    Field(
        "timeout",
        "Timeout (seconds)",
        TRANSPORT,
        "number",
        default=30,
        minimum=1,
        help="How long to wait for a server before giving up.",
    ),
    Field(
        "verify",
        "TLS verification",
        TRANSPORT,
        "string",
        default="true",
        placeholder="/etc/ssl/certs/company-ca.pem",
        help="true, or the path of a file with your company's CA certificates. "
        "false switches the check off: never in production.",
    ),
    # HttpHook's other extras. Few people need them, so they are no fields of the form but keys of extra.
    Field(
        "cert",
        "Client certificate",
        TRANSPORT,
        "list",
        in_form=False,
        placeholder="/etc/ssl/private/client.pem",
        unset="none",
        help="Path of a PEM file with a client certificate and its key, or a list of two paths.",
    ),
    Field(
        "proxies",
        "Proxies",
        TRANSPORT,
        "object",
        in_form=False,
        placeholder='{"https": "http://proxy.example.com:3128"}',
        unset="what the environment says",
        help="Proxies by scheme.",
    ),
    Field(
        "trust_env",
        "Use the environment",
        TRANSPORT,
        "boolean",
        default=True,
        in_form=False,
        help="Whether environment variables such as HTTPS_PROXY count.",
    ),
    Field(
        "allow_redirects",
        "Follow redirects",
        API,
        "boolean",
        default=True,
        in_form=False,
        help="Whether redirects of the API are followed.",
    ),
    Field(
        "max_redirects",
        "Redirects at most",
        API,
        "integer",
        default=30,
        minimum=0,
        in_form=False,
        help="After how many redirects a request is given up.",
    ),
    Field(
        "check_response",
        "Fail on an error status",
        API,
        "boolean",
        default=True,
        in_form=False,
        help="Whether an answer of 400 and above is an error.",
    ),
    Field(
        "stream",
        "Stream answers",
        API,
        "boolean",
        default=False,
        in_form=False,
        help="Whether the body of an answer is left to be read piece by piece.",
    ),
    Field(
        "allow_http",
        "Allow an API without TLS",
        API,
        "boolean",
        default=False,
        in_form=False,
        help="Whether the access token may be sent to an http address beyond this machine. "
        "Only for a network that you trust.",
    ),
    Field(
        "srv_lookup",
        "Look up the host by SRV record",
        TRANSPORT,
        "boolean",
        default=False,
        in_form=False,
        help="Whether the host names a DNS SRV record that says host and port.",
    ),
    # A form replaces extra as a whole: what it does not send back is gone, and with it the tokens that a
    # worker wrote while the form was open. As a field of the form it is sent back as MASK, and for MASK
    # Airflow keeps what stands in the database at that moment. (A new connection stores MASK itself.)
    Field(
        RECORD_KEY,
        "Kept by Airflow",
        STORE,
        "password",
        default=MASK,
        secret=True,
        kept=True,
        help="The tokens of the last refresh. Written by the program; do not edit.",
    ),
)

FIELDS_BY_KEY: Mapping[str, Field] = MappingProxyType({field.key: field for field in FIELDS})
"""The table by key."""

ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "token_url": "oauth_url",
        "token_endpoint": "oauth_url",
        "token_uri": "oauth_url",
        "proxy": "proxies",  # as HttpHook reads these two
        "verify_ssl": "verify",
    }
)
"""Other names under which a key is read; never shown."""
