"""What a refresh needs to know of a connection, and where it learns it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from airflow_oauth_provider.oauth2.client import Client
from airflow_oauth_provider.oauth2.grants import GrantInputs, GrantOptions
from airflow_oauth_provider.oauth2.token_response import TokenResponse
from airflow_oauth_provider.tokens.json_members import LATEST_TIME
from airflow_oauth_provider.tokens.record import Record, TokenStore, fingerprint


@dataclass(frozen=True, slots=True)
class RefreshPolicy:
    """When to refresh.

    :param when: ``expired``, ``always``, ``unauthorized``, ``interval`` or ``never``; see the connection's
        ``refresh_when``.
    :param leeway: seconds before expiry at which a token counts as stale; at most half its lifetime counts.
    :param interval: seconds between refreshes, for ``interval``.
    :param min_interval: seconds that the vendor wants between two refreshes.
    :param resend_lost_response: whether a refresh token is sent once more when the answer to it was lost.
    :param refresh_lifetime: seconds that a refresh token lives where the answer does not say; None: unknown.
    :param idle_lifetime: seconds without a refresh after which the refresh token is dead; None: unknown.
    :param warn_before: seconds before its end from which each refresh warns of it.
    """

    when: str = "expired"
    leeway: float = 60.0
    interval: float = 0.0
    min_interval: float = 0.0
    resend_lost_response: bool = True
    refresh_lifetime: float | None = None
    idle_lifetime: float | None = None
    warn_before: float = 0.0

    def refresh_token_end(self, old: Record, response: TokenResponse, sent_at: float) -> float | None:
        """Return when the refresh token ends that is kept after ``response``, in seconds since 1970; None: unknown.

        :param old: the record before.
        :param sent_at: when it was asked for.
        """
        ends = old.refresh_expires_at
        is_new = response.refresh_token is not None and response.refresh_token != old.refresh_token
        if response.refresh_expires_in is not None:
            ends = sent_at + response.refresh_expires_in
        elif self.refresh_lifetime is not None and (is_new or ends is None):
            ends = sent_at + self.refresh_lifetime
        elif self.idle_lifetime is not None:
            ends = None  # what was known was when it would have died unused, and it has been used
        limits = [ends, None if self.idle_lifetime is None else sent_at + self.idle_lifetime]
        known = [limit for limit in limits if limit is not None]
        return min(*known, LATEST_TIME) if known else None

    def ends_soon(self, old: Record, new: Record, now: float) -> float | None:
        """Return the seconds until a person has to sign in again, where that is near and a refresh did not put it off.

        :param old: the record before the refresh.
        :param new: the record after it.
        :param now: this machine's wall clock, in seconds since the epoch.
        """
        ends, before = new.refresh_expires_at, old.refresh_expires_at
        if ends is None or before is None:
            return None
        if ends - before > (new.issued_at - old.issued_at) / 2:
            return None  # it moves along with the refreshes; a fixed end stands still, but for rounding
        left = ends - now
        return left if left <= self.warn_before else None


@dataclass(frozen=True, slots=True)
class EnteredTokens:
    """The tokens as a person entered them.

    :param refresh_token: None where none was entered.
    :param access_token: None where none was entered.
    :param expires_at: seconds since the epoch at which the access token ends; None where it was not said.
    """

    refresh_token: str | None = field(default=None, repr=False)
    access_token: str | None = field(default=None, repr=False)
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class GrantConfiguration:
    """One connection, as far as the token life cycle goes.

    :param conn_id: its name, for messages.
    :param grant_type: ``refresh_token``, ``client_credentials``, ``password``, ``jwt_bearer`` or ``token_exchange``.
    :param options: what goes with the grant.
    :param entered: the tokens as first entered.
    :param inputs: what goes with ``grant_type`` only.
    :param callback: the function that fetches tokens, ``package.module:function``; empty: a token request does.
    :param hint: what to say beside what is missing: where it may be kept, and keys that mean nothing.
    :param sign_in_page: the address at which a person signs in; empty where there is none, or it is not known.
    """

    conn_id: str
    client: Client
    grant_type: str = "refresh_token"
    options: GrantOptions = field(default_factory=GrantOptions)
    entered: EnteredTokens = field(default_factory=EnteredTokens)
    policy: RefreshPolicy = field(default_factory=RefreshPolicy)
    inputs: GrantInputs = field(default_factory=GrantInputs)
    callback: str = ""
    hint: str = ""
    sign_in_page: str = ""

    def values(self, record: Record) -> dict[str, Any]:
        """Return the current values, for a callback. They hold secrets."""
        return {
            "conn_id": self.conn_id,
            "grant_type": self.grant_type,
            "client_id": self.client.client_id,
            "client_secret": self.client.client_secret,
            "oauth_url": self.client.token_url,
            "refresh_url": self.client.refresh_url,
            "scope": self.options.scope,
            "audience": self.options.audience,
            "access_token": record.access_token,
            "refresh_token": record.refresh_token,
            "token_type": record.token_type,
            "expires_at": record.expires_at,
            "timeout": self.client.transport.timeout,
            "response": dict(record.response_parameters),
        }

    def fingerprint_for_client(self, refresh_token: str | None) -> str:
        """Return the fingerprint of ``refresh_token`` together with this client and this server.

        A server refuses it to any other client as it refuses a dead one (RFC 6749 section 5.2), so that a refusal says
        nothing any more once the client or the server in the connection is another one.
        """
        client = self.client
        where = [client.client_id, client.token_url, client.refresh_url, client.issuer]
        return fingerprint("\n".join([refresh_token or "", *where])) or ""

    @property
    def identity(self) -> str:
        """Fingerprint of the grant, client and server by which access tokens come."""
        client = self.client
        return fingerprint("\n".join([self.grant_type, client.client_id, client.token_url, client.issuer])) or ""

    @property
    def rotates(self) -> bool:
        """Whether a refresh spends a refresh token that must not be lost."""
        return self.grant_type == "refresh_token"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A connection and its record, read together.

    :param configuration: the connection as it stands now.
    :param record: the stored record, None where there is none.
    :param version: what the next write may replace.
    :param settle_time: of the store; see :class:`~airflow_oauth_provider.tokens.record.StoredRecord`.
    """

    configuration: GrantConfiguration
    store: TokenStore
    record: Record | None
    version: str | None
    settle_time: float


class ConfigurationSource(Protocol):
    """Where :class:`~airflow_oauth_provider.tokens.manager.TokenManager` reads a connection, for each refresh."""

    def load(self) -> Snapshot:
        """Read the connection and its record.

        :raises ConfigurationError: when the connection is wrong.
        :raises StoreUnavailable: when it cannot be read for now.
        """
