"""What the author of a store needs: what a connection says about its store, and what a place for records has to do.

To add a store, write a class with the members of :class:`Backend`, or of :class:`PlainBackend`. The table of the
connection's fields takes names from here, so this imports the standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

if TYPE_CHECKING:
    from airflow_oauth_provider.tokens.record import Record

#: The type of the connections whose rows keep records.
CONN_TYPE = "oauth2"
StoreKind = Literal[
    "auto", "connection", "variable", "vault", "file", "aws_secrets_manager", "azure_keyvault", "gcp_secret_manager"
]
#: The values of ``store``.
KINDS: tuple[StoreKind, ...] = get_args(StoreKind)
#: Those of Airflow itself, which find a record by the connection's name.
IN_AIRFLOW: tuple[StoreKind, ...] = ("auto", "connection", "variable")


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """The connection's fields about stores, each under its own name and with its default.

    ``connection/fields.py`` says what each is for; a test holds the two together.
    """

    store: StoreKind = "auto"
    vault_conn_id: str = "vault_default"
    vault_path: str | None = None
    vault_mount_point: str | None = None
    file_path: str | None = None
    file_map: Mapping[str, str] = field(default_factory=dict, hash=False)
    aws_name: str | None = None
    aws_region: str | None = None
    aws_conn_id: str | None = None
    keyvault_url: str | None = None
    keyvault_names: Mapping[str, str] = field(default_factory=dict, hash=False)
    azure_conn_id: str | None = None
    gcp_name: str | None = None
    gcp_endpoint: str | None = None
    gcp_conn_id: str | None = None


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a place holds, as just read or written.

    :param text: the record's text; None where there is certainly none.
    :param token: whatever the backend needs to replace exactly this, such as a version number. Nobody else looks at it.
    :param kept: what people keep beside the record: client id, client secret, keys, and a refresh token that a person
        has entered. None: this kind of place keeps nothing else.
    :param entered: what counts as the record while nobody has written one: the tokens that people entered beside it.
    :param connections: the connections that may use the place, as it says itself; None where it says nothing.
    """

    text: str | None = field(repr=False)
    token: Any = field(default=None, repr=False)
    kept: Mapping[str, Any] | None = field(default=None, repr=False)
    entered: Record | None = None
    connections: tuple[str, ...] | None = None


class Place(Protocol):
    """Where one connection's record can be kept."""

    #: The value of the connection's ``store`` that chooses this place.
    name: str
    #: What to call the place in a sentence, such as ``the file '/opt/airflow/xero.json'``.
    where: str
    #: What to call what holds the record, where the place holds more, such as ``the member 'x' of the file …``.
    record_where: str

    def fetch(self) -> Fetched:
        """Return what the place holds now.

        :raises StoreUnavailable: it cannot be told whether there is a record. A failed read is never "there is none".
        :raises StoreNotWritable: the place does not exist, or can never hold a record.
        """


class Backend(Place, Protocol):
    """A place that can replace a text only if it is unchanged."""

    def replace(self, fetched: Fetched, text: str) -> Fetched | None:
        """Put ``text`` in the place of ``fetched``, or change nothing.

        :param fetched: what :meth:`fetch`, or an earlier :meth:`replace`, returned.
        :return: what the place holds now; None where somebody else has written since ``fetched`` was read.
        :raises StoreUnavailable: the text was not taken, or the answer was lost and it may have been.
        :raises StoreNotWritable: this text can never be written here.
        """


class PlainBackend(Place, Protocol):
    """A place that can only be read and written: it has no compare-and-set."""

    def put(self, fetched: Fetched, text: str) -> None:
        """Write ``text``, whatever the place holds by now.

        :param fetched: what :meth:`fetch` returned last.
        :raises StoreUnavailable: the text was not taken, or the answer was lost and it may have been.
        :raises StoreNotWritable: this text can never be written here.
        """
