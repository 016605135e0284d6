"""The fields of an ``oauth2`` connection: the one table that everything else is generated from.

The provider info (Airflow 3.2 and later), the hook's form methods (Airflow up to 3.1), the documentation and the
reading of a connection all start here. To add a key, add a row.

Two rules for a row:

* A key holds the letters ``token``, ``secret`` or ``password`` only if its value is a secret. Airflow decides by the
  key what to show as ``***``, and stars that value in every log from then on.
* Every key has a default that works, or may be left empty. A form stores all of its fields, the empty ones as ``null``.
  So whoever reads a connection takes ``null``, ``""`` and :data:`MASK` for "not set". Forms show a default but do not
  fill it in: a default that was stored could not be told from a choice.

Airflow reads this module each time it lists its providers: it imports nothing but the standard library and lists
of names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from airflow_oauth_provider.compat.extra_json import GUARD_MEMBER, KEY_MEMBER, RECORD_MEMBER
from airflow_oauth_provider.connection.presets import PRESET_LABELS
from airflow_oauth_provider.oauth2.client import PLACEABLE, STANDARD_CODES
from airflow_oauth_provider.oauth2.redaction import MASK
from airflow_oauth_provider.stores.backend import CONN_TYPE as CONN_TYPE
from airflow_oauth_provider.stores.backend import KINDS as STORE_KINDS

Kind = Literal["string", "password", "boolean", "integer", "number", "object", "list", "pairs"]
"""What a value is. A ``list`` is text with commas between the items, in forms and in the stored value; ``pairs`` is a
list of ``name=value``, since Airflow would star the value of a name such as ``access_token`` in an object."""

Default = str | int | float | bool | None

HOOK_NAME = "OAuth 2.0"

NEEDED = "Needed"
SERVER = "Authorization server"
GRANT = "Grant and scope"
TOKENS = "Tokens that you have"
REFRESH = "When to refresh"
STORE = "Where new tokens are kept"
API = "API calls"
DIALECT = "How the server departs from the standard"
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
    :param mixed: whether a secret may stand among its values: no error quotes them.
    :param labels: what a drop-down shows for a choice, where that is more than the choice itself.
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
    mixed: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def default_text(self) -> str:
        """The default as a person would type it, ``""`` where there is none."""
        if self.default is None:
            return ""
        return str(self.default).lower() if isinstance(self.default, bool) else str(self.default)

    @property
    def unchosen(self) -> str:
        """What a drop-down shows while nothing is chosen."""
        return f"default ({self.default_text})" if self.default_text else self.unset or "not set"

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

# fmt: off
FIELDS: tuple[Field, ...] = (
    Field("provider", "Provider", NEEDED, "string", choices=tuple(PRESET_LABELS), labels=PRESET_LABELS,
          unset="none, fill in the token URL or the issuer",
          help="The vendor whose API you read, if the list has it: addresses and peculiarities are filled in. What "
               "you enter yourself in any field wins. Behind the colon: what this vendor needs in the next fields."),
    Field("provider_params", "Provider parameters", NEEDED, "pairs", placeholder="tenant=contoso.onmicrosoft.com",
          unset="none",
          help="What the list of providers says that yours needs, such as your tenant or region: name=value, with "
               "commas between them."),
    Field("scope", "Scope", NEEDED, "string", placeholder="offline_access invoices.read",
          unset="what was granted at sign-in",
          help="What the token may do: names with spaces between them, from the vendor's documentation. A sign-in "
               "asks for it, and for what the provider wants before it gives a refresh token."),
    Field("oauth_url", "Token URL", NEEDED, "string", placeholder="https://login.example.com/oauth/token",
          help="Needed without a provider: the address that hands out tokens, from the vendor's documentation."),
    Field("issuer", "Issuer", NEEDED, "string", placeholder="https://login.example.com",
          help="In place of the token URL: the address of the sign-in service. The token URL is looked up there."),
    Field("refresh_token", "Refresh token", NEEDED, "password", secret=True, unset="sign in, see below",
          help="Leave it empty and sign in after you have saved the connection: on the page OAuth 2.0 grants, or by "
               "the command airflow oauth2 authorize. If you have a refresh token, enter it: the program spends it "
               "once and keeps its successors. Not needed for client_credentials."),
    Field("auth_method", "Client authentication", SERVER, "string", default="client_secret_basic",
          choices=("client_secret_basic", "client_secret_post", "none", "private_key_jwt", "client_secret_jwt",
                   "tls_client_auth", "self_signed_tls_client_auth"),
          help="How client ID and client secret are sent. client_secret_basic: in a header. client_secret_post: in "
               "the body. none: for an app without a secret. If the server answers invalid_client, try another one. "
               "private_key_jwt: signed with a private key. client_secret_jwt: signed with the client secret. "
               "tls_client_auth, self_signed_tls_client_auth: by the client certificate."),
    Field("grant_type", "Grant type", GRANT, "string", default="refresh_token",
          choices=("refresh_token", "client_credentials", "jwt_bearer", "token_exchange", "password"),
          help="refresh_token: a person signed in once, and the app got a refresh token. client_credentials: the app "
               "signs in as itself, with client ID and client secret. jwt_bearer: with an assertion signed by a "
               "private key. token_exchange: one token is exchanged for another. password: with a person's name and "
               "password, which is out of date."),
    Field("audience", "Audience", GRANT, "string", unset="not sent",
          help="Which API the token is for. Only for vendors that ask for it, such as Auth0."),
    Field("resource", "Resource", GRANT, "string", unset="not sent",
          help="Which API the token is for, as a URL. Only for vendors that ask for it."),
    Field("access_token", "Access token", TOKENS, "password", secret=True, unset="one is fetched at first use",
          help="An access token that still works, if you have one."),
    Field("expires_at", "Access token expires at", TOKENS, "string", placeholder="2030-01-31T12:00:00Z",
          unset="unknown", help="When the access token above stops working: a date, or seconds since 1970."),
    Field("refresh_when", "Refresh when", REFRESH, "string", default="expired",
          choices=("expired", "always", "unauthorized", "interval", "never"),
          help="expired: shortly before the access token runs out, and when the API answers 401. always: before each "
               "task's first request. unauthorized: only when the API answers 401. interval: at fixed times. never: "
               "use the access token as it is."),
    Field("refresh_interval", "Refresh interval (seconds)", REFRESH, "number", minimum=1,
          help="For Refresh when = interval, and needed there: how old an access token may become."),
    Field("leeway", "Refresh early by (seconds)", REFRESH, "number", default=60, minimum=0,
          help="How long before its end an access token is replaced."),
    Field("min_refresh_interval", "Wait between refreshes (seconds)", REFRESH, "number", minimum=0, unset="no wait",
          help="For vendors that refuse a refresh soon after the last one."),
    Field("resend_lost_response", "Resend after a lost answer", REFRESH, "boolean", default=True,
          help="If the answer to a refresh never arrives, send the same refresh token once more. Choose false for "
               "servers that end the grant when they see a refresh token twice."),
    Field("store", "Token store", STORE, "string", default="auto", choices=STORE_KINDS,
          help="connection: in this connection. variable: in an Airflow Variable. vault: in HashiCorp Vault or "
               "OpenBao. file: in a JSON file. aws_secrets_manager: in AWS. azure_keyvault: in Azure. "
               "gcp_secret_manager: in Google Cloud. auto: in this connection if Airflow's database has it, else "
               "(environment, secrets backend) in a Variable."),
    Field("vault_conn_id", "Vault connection ID", STORE, "string", default="vault_default", placeholder="vault_finance",
          help="For Token store = vault: the Airflow connection of type Hashicorp Vault."),
    Field("vault_path", "Vault path", STORE, "string", placeholder="airflow/oauth2/xero",
          help="For Token store = vault: where the tokens are kept, without the mount point."),
    Field("vault_mount_point", "Vault mount point", STORE, "string", placeholder="kv",
          unset="the one of the Vault connection", help="For Token store = vault: the secrets engine."),
    Field("file_path", "Token file", STORE, "string", placeholder="/opt/airflow/oauth2/xero.json",
          help="For Token store = file, and needed there: the JSON file with the tokens. It has to exist, and all "
               "workers have to see the same one."),
    Field("file_map", "Places in the token file", STORE, "pairs",
          placeholder="client_id=$.app.id, client_secret=$.app.key, refresh_token=$.tokens[0].refresh", in_form=False,
          unset="client_id, client_secret, private_key, dpop_private_key, refresh_token, access_token and expires_at "
                "at the top level",
          help="For Token store = file, aws_secrets_manager or gcp_secret_manager: where things stand in the JSON, as "
               "name=JSONPath."),
    Field("aws_name", "AWS name", STORE, "string", placeholder="airflow/oauth2/xero", in_form=False,
          help="For Token store = aws_secrets_manager, and needed there: name or ARN of what keeps the tokens. It has "
               "to exist, and to be a JSON object."),
    Field("aws_region", "AWS region", STORE, "string", placeholder="eu-central-1", in_form=False,
          unset="what the environment says", help="For Token store = aws_secrets_manager."),
    Field("aws_conn_id", "AWS connection ID", STORE, "string", placeholder="aws_default", in_form=False,
          unset="the worker's own identity",
          help="For Token store = aws_secrets_manager: the Airflow connection of type Amazon Web Services."),
    Field("keyvault_url", "Azure Key Vault", STORE, "string", placeholder="https://my-vault.vault.azure.net",
          in_form=False, help="For Token store = azure_keyvault, and needed there: the vault's address."),
    Field("keyvault_names", "Names in Azure Key Vault", STORE, "pairs",
          placeholder="private_key=airflow-oauth2-xero-private-key, access_token=", in_form=False,
          unset="airflow-oauth2-, the connection's id, and -client-id, -client-secret, -refresh-token, -access-token "
                "or -token-record",
          help="For Token store = azure_keyvault: the name in the vault of each value, as value=name. Nothing behind "
               "the = means that it is not kept. Named here, private_key and dpop_private_key are read there, too."),
    Field("azure_conn_id", "Azure connection ID", STORE, "string", placeholder="azure_default", in_form=False,
          unset="the worker's own identity",
          help="For Token store = azure_keyvault: the Airflow connection of type Azure to log in with."),
    Field("gcp_name", "Google Cloud name", STORE, "string",
          placeholder="projects/my-project/secrets/airflow-oauth2-xero", in_form=False,
          help="For Token store = gcp_secret_manager, and needed there: the whole name of what keeps the tokens. It "
               "has to exist, with a version that is a JSON object."),
    Field("gcp_endpoint", "Google Cloud endpoint", STORE, "string",
          placeholder="secretmanager-my-endpoint.p.googleapis.com", in_form=False,
          unset="Google's, of the region that is in the name",
          help="For Token store = gcp_secret_manager: the host, where it is reached by Private Service Connect."),
    Field("gcp_conn_id", "Google Cloud connection ID", STORE, "string", placeholder="google_cloud_default",
          in_form=False, unset="the worker's own identity",
          help="For Token store = gcp_secret_manager: the Airflow connection of type Google Cloud to log in with."),
    Field("allowed_hosts", "Further hosts", API, "list", mixed=True, placeholder="https://files.example.com",
          unset="none",
          help="The access token goes to the API base URL only. Other addresses that may get it, with commas between "
               "them."),
    Field("headers", "API headers", API, "object", mixed=True, placeholder='{"Accept": "application/json"}',
          unset="none", help="Headers for every API call, as a JSON object."),
    Field("timeout", "Timeout (seconds)", TRANSPORT, "number", default=30, minimum=1,
          help="How long to wait for a server before giving up."),
    Field("verify", "TLS verification", TRANSPORT, "string", default="true",
          placeholder="/etc/ssl/certs/company-ca.pem",
          help="true, or the path of a file with your company's CA certificates. false switches the check off: never "
               "in production."),
    # HttpHook's other extras. Few people need them, so they are no fields of the form but keys of extra.
    Field("cert", "Client certificate", TRANSPORT, "list", in_form=False, placeholder="/etc/ssl/private/client.pem",
          unset="none", help="Path of a PEM file with a client certificate and its key, or a list of two paths."),
    Field("proxies", "Proxies", TRANSPORT, "object", mixed=True, in_form=False,
          placeholder='{"https": "http://proxy.example.com:3128"}', unset="what the environment says",
          help="Proxies by scheme."),
    Field("trust_env", "Use the environment", TRANSPORT, "boolean", default=True, in_form=False,
          help="Whether environment variables such as HTTPS_PROXY count."),
    Field("allow_redirects", "Follow redirects", API, "boolean", default=True, in_form=False,
          help="Whether redirects of the API are followed."),
    Field("max_redirects", "Redirects at most", API, "integer", default=30, minimum=0, in_form=False,
          help="After how many redirects a request is given up."),
    Field("check_response", "Fail on an error status", API, "boolean", default=True, in_form=False,
          help="Whether an answer of 400 and above is an error."),
    Field("stream", "Stream answers", API, "boolean", default=False, in_form=False,
          help="Whether the body of an answer is left to be read piece by piece."),
    Field("allow_http", "Allow an API without TLS", API, "boolean", default=False, in_form=False,
          help="Whether the access token may be sent to an http address beyond this machine. Only for a network that "
               "you trust."),
    Field("srv_lookup", "Look up the host by SRV record", TRANSPORT, "boolean", default=False, in_form=False,
          help="Whether the host names a DNS SRV record that says host and port."),
    Field("private_key", "Private key", GRANT, "password", secret=True, in_form=False,
          help="For auth_method private_key_jwt and grant_type jwt_bearer: the key that signs, as PEM or JWK. May "
               "stand in Vault instead."),
    Field("key_id", "Key ID", GRANT, "string", in_form=False, unset="as the JWK says, else none",
          help="How the server knows the private key (kid)."),
    Field("assertion_alg", "Signature algorithm", GRANT, "string", in_form=False,
          choices=("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"),
          unset="what fits the key", help="How assertions are signed."),
    Field("dpop_private_key", "Key that tokens are bound to", GRANT, "password", secret=True, in_form=False,
          unset="none, tokens are bearer tokens",
          help="Binds tokens to this private key (DPoP, RFC 9449), so that nobody can use them without it: PEM or "
               "JWK, best of the curve P-256. Keep the same one: a public client's refresh token works with no other. "
               "May stand where the client secret may."),
    Field("assertion_audience", "Audience of assertions", GRANT, "string", in_form=False, placeholder="issuer",
          unset="the token URL",
          help="Whom assertions are for: issuer stands for the issuer of this connection; other values are sent as "
               "they are."),
    Field("assertion_issuer", "Issuer of the assertion", GRANT, "string", in_form=False, unset="the client ID",
          help="For grant_type jwt_bearer: who makes the assertion."),
    Field("assertion_subject", "Subject of the assertion", GRANT, "string", in_form=False, unset="its issuer",
          help="For grant_type jwt_bearer: the user in whose name tokens are asked for."),
    Field("assertion_claims", "Claims of the assertion", GRANT, "object", mixed=True, in_form=False,
          placeholder='{"scope": "reports.read"}', help="For grant_type jwt_bearer: further claims."),
    Field("username", "User name", GRANT, "string", in_form=False, help="For grant_type password: who signs in."),
    Field("user_password", "User password", GRANT, "password", secret=True, in_form=False,
          help="For grant_type password: that user's password."),
    Field("subject_token", "Token to exchange", GRANT, "password", secret=True, in_form=False,
          help="For grant_type token_exchange: the token that is given away."),
    Field("subject_type", "Type of the token to exchange", GRANT, "string", in_form=False, unset="an access token",
          help="For grant_type token_exchange: a URI."),
    Field("actor_token", "Token of the actor", GRANT, "password", secret=True, in_form=False,
          help="For grant_type token_exchange: who acts in the name of the subject."),
    Field("actor_type", "Type of the actor's token", GRANT, "string", in_form=False, unset="an access token",
          help="For grant_type token_exchange: a URI."),
    Field("requested_type", "Type of the token wanted", GRANT, "string", in_form=False, unset="as the server likes",
          help="For grant_type token_exchange: a URI."),
    Field("introspect", "Ask for lifetimes", DIALECT, "boolean", in_form=False, default=False,
          help="When an answer has no lifetime, ask the introspection endpoint for it."),
    Field("callback", "Callback", DIALECT, "string", in_form=False, placeholder="my_company.oauth:refresh",
          unset="none",
          help="A function that fetches tokens in place of a token request. Only from packages that the deployment "
               "allows: callback_prefixes in the section [oauth2] of airflow.cfg."),
    # How servers depart from the standard. Presets know most of it, so these are keys of extra, not of the form.
    Field("refresh_url", "Refresh URL", SERVER, "string", in_form=False,
          placeholder="https://login.example.com/oauth/refresh", unset="the token URL",
          help="Where refreshes go, for servers that have an address of its own for them."),
    Field("basic_encoding", "Encoding of HTTP Basic", SERVER, "string", default="percent",
          choices=("percent", "form", "raw"), in_form=False,
          help="How client ID and client secret are encoded in the header. percent: as the standard says. form: with "
               "+ for a space. raw: not at all, for servers that decode nothing."),
    Field("request_format", "Request format", DIALECT, "string", default="form", choices=("form", "json", "query"),
          in_form=False,
          help="Where the parameters of a token request go: a form body, a JSON body, or the query of the URL. The "
               "last one puts secrets into a URL: only for servers that take nothing else."),
    Field("extra_params", "Further parameters", DIALECT, "pairs", mixed=True, in_form=False,
          placeholder="account_id=1234", unset="none",
          help="Sent with each token request. They replace parameters of the same name, and an empty value removes "
               "one."),
    Field("param_names", "Names of parameters", DIALECT, "pairs", in_form=False, placeholder="client_id=client_key",
          unset="as in the standard",
          help="For servers that call a parameter by another name: standard name=their name."),
    Field("extra_headers", "Further headers", DIALECT, "pairs", mixed=True, in_form=False,
          placeholder="User-Agent=my-app/1.0", unset="none", help="Sent with each token request."),
    Field("response_map", "Places in the token response", DIALECT, "pairs", in_form=False,
          placeholder="access_token=$.data.tokens[0].value, expires_in=$.data.ttl", unset="as in the standard",
          help="JSONPaths by name: " + ", ".join(PLACEABLE) + "."),
    Field("expires_in_unit", "Unit of lifetimes", DIALECT, "string", default="seconds",
          choices=("seconds", "milliseconds"), in_form=False,
          help="The unit of expires_in and of the lifetime of a refresh token."),
    Field("default_expires_in", "Lifetime of access tokens (seconds)", DIALECT, "number", minimum=1, in_form=False,
          unset="unknown, so that only a 401 tells its end",
          help="How long an access token lives when the answer does not say."),
    Field("refresh_expires_in", "Lifetime of refresh tokens (seconds)", DIALECT, "number", minimum=1, in_form=False,
          unset="unknown",
          help="How long a refresh token lives when the answer does not say. You are warned before it ends."),
    Field("refresh_idle_days", "Refresh tokens die unused after (days)", DIALECT, "number", minimum=1, in_form=False,
          unset="unknown", help="After how many days without a refresh the refresh token is dead."),
    Field("refresh_warning_days", "Warn before the refresh token ends (days)", DIALECT, "number", default=7, minimum=0,
          in_form=False, help="How long before a person has to sign in again each refresh says so in the log."),
    Field("accepted_types", "Token types", DIALECT, "list", in_form=False, placeholder="Bearer, bot", unset="Bearer",
          help="Values of token_type with which the access token is used."),
    Field("error_map", "Error codes", DIALECT, "pairs", in_form=False, placeholder="invalid_code=invalid_grant",
          unset="as in the standard",
          help="What the server's own error codes amount to: code=standard code, the latter one of "
               + ", ".join(STANDARD_CODES) + "."),
    Field("error_in_200", "Errors inside a success", DIALECT, "object", in_form=False,
          placeholder='{"path": "$.ok", "pattern": "^false$"}', unset="none",
          help="What marks an error where the status is 200: the value at the JSONPath matches the pattern: text, ^, "
               "$ and |, or any regular expression of RE2 with the extra airflow-oauth-provider[regex]. The path $ "
               "stands for the text of the body."),
    Field("scope_separator", "Between scopes", DIALECT, "string", in_form=False, placeholder=";", unset="a space",
          help="What stands between scopes, one character. Enter scopes with spaces all the same."),
    Field("header_name", "Header of the access token", API, "string", default="Authorization", in_form=False,
          help="The header field that carries the access token to the API."),
    Field("header_prefix", "Word before the access token", API, "string", in_form=False, placeholder="Zoho-oauthtoken",
          unset="Bearer, or nothing where header_name is another one",
          help="What stands before the access token in that header. The word none stands for nothing."),
    Field("in_query", "Access token in the query", API, "string", in_form=False, placeholder="access_token",
          unset="in a header",
          help="The query parameter that carries the access token instead of a header, for APIs that take nothing "
               "else: URLs end up in logs."),
    Field("expired_statuses", "Statuses that mean expired", API, "list", in_form=False, placeholder="401, 403",
          unset="401", help="After which statuses of the API the token is refreshed and the request sent again."),
    Field("expired_pattern", "Text that means expired", API, "string", in_form=False,
          placeholder="token expired|token is expired", unset="any",
          help="For statuses other than 401: what the body of the response has to match: text, ^, $ and |, or any "
               "regular expression of RE2 with the extra airflow-oauth-provider[regex]."),
    Field("revocation_url", "Revocation URL", SERVER, "string", in_form=False, unset="found by the issuer",
          help="Where tokens are revoked (RFC 7009)."),
    Field("introspection_url", "Introspection URL", SERVER, "string", in_form=False, unset="found by the issuer",
          help="Where the server says what a token is good for (RFC 7662)."),
    Field("authorize_url", "Authorization URL", SERVER, "string", in_form=False, unset="found by the issuer",
          help="Where a person signs in, for the first refresh token."),
    Field("device_authorize_url", "Device authorization URL", SERVER, "string", in_form=False,
          unset="found by the issuer", help="Where the sign-in on another device begins (RFC 8628)."),
    Field("authorize_params", "Parameters of the sign-in", SERVER, "pairs", mixed=True, in_form=False,
          placeholder="access_type=offline, prompt=consent", unset="none",
          help="What else the server wants to be sent when a person signs in, so that it gives a refresh token."),
    Field("test_client", "Test the client", SERVER, "boolean", default=True, in_form=False,
          help="Whether Test connection and doctor ask the server for a refresh with a made-up refresh token, to see "
               "if it accepts client ID and secret. Choose false for a vendor that counts refused requests."),
    # A form replaces extra as a whole: what it does not send back is gone, and with it the tokens that a worker wrote
    # while the form was open. As a field of the form it is sent back as MASK, and for MASK Airflow keeps what stands in
    # the database at that moment. (A new connection stores MASK itself.)
    Field(RECORD_MEMBER, "Kept by Airflow", STORE, "password", default=MASK, secret=True, kept=True,
          help="The tokens of the last refresh. Written by the program; do not edit."),
    Field(KEY_MEMBER, "Kept by Airflow, too", STORE, "password", default=MASK, secret=True, kept=True,
          help="The key by which tasks write the tokens. Written by the program; do not edit."),
    Field(GUARD_MEMBER, "Guard", STORE, "object", in_form=False, kept=True,
          help="An empty object that stands first: stock hooks, which would send these keys away, fail at it."),
)
# fmt: on

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
