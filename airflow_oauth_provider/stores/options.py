"""What a connection says about where its tokens are kept.

The table of the connection's fields takes names from here, so this imports the standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

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
