"""The fields of an ``oauth2`` connection: the one table that everything else is generated from.

The provider info (Airflow 3.2 and later), the hook's form methods (Airflow up to 3.1), the documentation
and the reading of a connection all start here. To add a key, add a row.

Two rules for a row:

* A key holds the letters ``token``, ``secret`` or ``password`` only if its value is a secret. Airflow
  decides by the key what to show as ``***``, and stars that value in every log from then on.
* Every key has a default that works, or may be left empty. A form stores all of its fields, so whoever
  reads a connection takes ``null``, ``""`` and :data:`MASK` for "not set".

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

GRANT = "Grant"
SERVER = "Authorization server"
TOKENS = "First tokens"
REFRESH = "When to refresh"
STORE = "Where new tokens are kept"
API = "API calls"
TRANSPORT = "Network"


@dataclass(frozen=True, slots=True)
class Field:
    """One key of the connection's ``extra``.

    :param key: the key in ``extra``.
    :param title: its label in the form.
    :param section: the group of the form that it stands in.
    :param kind: what the value is.
    :param default: what holds when the connection does not say; ``None`` for nothing.
    :param choices: the values allowed, when they are few: a drop-down.
    :param secret: whether the value is to be hidden.
    :param help: one or two plain sentences for a person who fills in the form.
    :param minimum: the least number allowed.
    :param maximum: the greatest number allowed.
    :param placeholder: an example, shown in the empty field where Airflow can.
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
    minimum: float | None = None
    maximum: float | None = None
    placeholder: str = ""
    in_form: bool = True
    kept: bool = False


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
    StandardField("password", "Client secret", "empty if your app has none"),
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
        help="The address that hands out tokens, often ending in /token. The vendor's documentation has it. "
        "Fill in this field or Issuer.",
    ),
    Field(
        "issuer",
        "Issuer",
        SERVER,
        "string",
        placeholder="https://login.example.com",
        help="Only if you have no token URL: the address of the sign-in service. "
        "The token URL is then looked up there.",
    ),
    Field(
        "auth_method",
        "How the client signs in",
        SERVER,
        "string",
        default="client_secret_basic",
        choices=("client_secret_basic", "client_secret_post", "none"),
        help="How client ID and secret are sent: client_secret_basic (default) in a header, client_secret_post "
        "in the form body, none for an app without a secret. "
        "If the server answers invalid_client, try the other one.",
    ),
    Field(
        "grant_type",
        "Grant type",
        GRANT,
        "string",
        default="refresh_token",
        choices=("refresh_token", "client_credentials"),
        help="refresh_token (default): a person signed in once, and the app got a refresh token. "
        "client_credentials: the app signs in as itself, with client ID and secret only.",
    ),
    Field(
        "scope",
        "Scope",
        GRANT,
        "string",
        placeholder="offline_access read",
        help="What the token may do, names with spaces between them. "
        "Leave empty (default) for what was granted at sign-in.",
    ),
    Field(
        "audience",
        "Audience",
        GRANT,
        "string",
        help="Which API the token is for. Only if the vendor asks for it (Auth0 does). Default: not sent.",
    ),
    Field(
        "resource",
        "Resource",
        GRANT,
        "string",
        help="Which API the token is for, as a URL. Only if the vendor asks for it. Default: not sent.",
    ),
    Field(
        "refresh_token",
        "Refresh token",
        TOKENS,
        "password",
        secret=True,
        help="The refresh token that you got when you signed in. It is used once; after that its successors are "
        "kept by Airflow. To sign in again later, enter the new one here. Not needed for client_credentials.",
    ),
    Field(
        "access_token",
        "Access token",
        TOKENS,
        "password",
        secret=True,
        help="Optional: an access token that still works. Leave empty (default) to fetch one at first use.",
    ),
    Field(
        "expires_at",
        "Access token works until",
        TOKENS,
        "string",
        placeholder="2030-01-31T12:00:00Z",
        help="Optional, for the access token above: a date such as 2030-01-31T12:00:00Z, or seconds since 1970. "
        "Default: unknown.",
    ),
    Field(
        "refresh_when",
        "Refresh",
        REFRESH,
        "string",
        default="expired",
        choices=("expired", "always", "unauthorized", "interval", "never"),
        help="expired (default): shortly before the access token runs out, and when the API answers 401. "
        "always: before each task's first request. unauthorized: only when the API answers 401. "
        "interval: at fixed times. never: use the access token as it is.",
    ),
    Field(
        "refresh_interval",
        "Interval (seconds)",
        REFRESH,
        "number",
        minimum=1,
        help="For Refresh = interval: how old an access token may get before it is replaced.",
    ),
    Field(
        "leeway",
        "Refresh early by (seconds)",
        REFRESH,
        "number",
        default=60,
        minimum=0,
        help="How long before its end an access token is replaced. Default: 60.",
    ),
    Field(
        "min_refresh_interval",
        "Not more often than (seconds)",
        REFRESH,
        "number",
        minimum=0,
        help="For vendors that refuse a refresh too soon after the last one. Default: no limit.",
    ),
    Field(
        "resend_lost_answer",
        "Ask again if the answer is lost",
        REFRESH,
        "boolean",
        default=True,
        help="When the connection breaks after the refresh token was sent, send the same one once more. "
        "Default: yes. Turn off for servers that block an account when a refresh token is seen twice.",
    ),
    Field(
        "store",
        "Store",
        STORE,
        "string",
        default="auto",
        choices=("auto", "connection", "variable", "vault"),
        help="auto (default): in this connection if it can be written, else in an Airflow Variable. "
        "connection, variable: that one. vault: in HashiCorp Vault or OpenBao.",
    ),
    Field(
        "vault_conn_id",
        "Vault connection",
        STORE,
        "string",
        placeholder="vault_default",
        help="For Store = vault: the ID of the Airflow connection of type Hashicorp Vault.",
    ),
    Field(
        "vault_path",
        "Vault path",
        STORE,
        "string",
        placeholder="airflow/oauth2/xero",
        help="For Store = vault: where in Vault the tokens are kept, without the mount point.",
    ),
    Field(
        "vault_mount_point",
        "Vault mount point",
        STORE,
        "string",
        placeholder="secret",
        help="For Store = vault: the secrets engine. Default: the mount point of the Vault connection.",
    ),
    Field(
        "api_conn_id",
        "Airflow API connection",
        STORE,
        "string",
        default="airflow_api",
        help="For Store = connection on Airflow 3: the ID of an Airflow connection with which tasks reach "
        "Airflow's own API server. Default: airflow_api.",
    ),
    Field(
        "allowed_hosts",
        "Further hosts",
        API,
        "list",
        placeholder="https://files.example.com",
        help="The access token is sent to the API base URL and nowhere else. Hosts that may get it too, "
        "with commas between them. Default: none.",
    ),
    Field(
        "headers",
        "Headers",
        API,
        "object",
        placeholder='{"Accept": "application/json"}',
        help='Headers to send with every API call, as JSON: {"Accept": "application/json"}. Default: none.',
    ),
    Field(
        "timeout",
        "Timeout (seconds)",
        TRANSPORT,
        "number",
        default=30,
        minimum=1,
        help="How long to wait for a server before giving up. Default: 30.",
    ),
    Field(
        "verify",
        "Check TLS certificates",
        TRANSPORT,
        "string",
        default="true",
        placeholder="true",
        help="true (default), or the path of a file with your company's CA certificates. "
        "false turns the check off: for tests only.",
    ),
    # HttpHook's other extras. Few people need them, so they are no fields of the form but keys of extra.
    Field(
        "cert",
        "Client certificate",
        TRANSPORT,
        "string",
        in_form=False,
        help="Path of a PEM file with a client certificate and its key, or a list of two paths. Default: none.",
    ),
    Field(
        "proxies",
        "Proxies",
        TRANSPORT,
        "object",
        in_form=False,
        help='Proxies by scheme: {"https": "http://proxy.example.com:3128"}. Default: what the environment says.',
    ),
    Field(
        "trust_env",
        "Use the environment",
        TRANSPORT,
        "boolean",
        default=True,
        in_form=False,
        help="Whether environment variables such as HTTPS_PROXY count. Default: true.",
    ),
    Field(
        "allow_redirects",
        "Follow redirects",
        API,
        "boolean",
        default=True,
        in_form=False,
        help="Whether redirects of the API are followed. Default: true.",
    ),
    Field(
        "max_redirects",
        "Redirects at most",
        API,
        "integer",
        default=30,
        minimum=0,
        in_form=False,
        help="After how many redirects a request is given up. Default: 30.",
    ),
    Field(
        "check_response",
        "Fail on an error status",
        API,
        "boolean",
        default=True,
        in_form=False,
        help="Whether an answer of 400 and above is an error. Default: true.",
    ),
    Field(
        "stream",
        "Stream answers",
        API,
        "boolean",
        default=False,
        in_form=False,
        help="Whether the body of an answer is left to be read piece by piece. Default: false.",
    ),
    Field(
        "srv_lookup",
        "Look up the host by SRV record",
        TRANSPORT,
        "boolean",
        default=False,
        in_form=False,
        help="Whether the host names a DNS SRV record that says host and port. Default: false.",
    ),
    # A form replaces extra as a whole: what it does not send back is gone, and with it the tokens that a
    # worker wrote while the form was open. As a field of the form it is sent back as MASK, and for MASK
    # Airflow keeps what stands in the database at that moment.
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
    {"token_url": "oauth_url", "token_endpoint": "oauth_url", "token_uri": "oauth_url"}
)
"""Other names under which a key is read; never shown, because Airflow would hide their values."""
