"""The servers as pytest fixtures. `tests/integration/conftest.py` and others import the ones they offer.

The real servers run for a whole session, so a test makes its own mounts, databases, users and grants in them.
The scripted server starts in a millisecond: each test gets its own.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.authorization_server import AuthorizationServer
from tests.servers.aws import AwsServer
from tests.servers.django_server import DjangoServer
from tests.servers.openbao import OpenBao
from tests.servers.postgres import Postgres
from tests.servers.scripted import ScriptedServer


@pytest.fixture(scope="session")
def openbao() -> Iterator[OpenBao]:
    """OpenBao in development mode: KV v2 at `secret/`, never sealed."""
    with OpenBao() as server:
        yield server


@pytest.fixture(scope="session")
def sealable_openbao() -> Iterator[OpenBao]:
    """OpenBao on raft storage: can be sealed, paused and restarted. A test leaves it running and unsealed."""
    with OpenBao(storage="raft") as server:
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL cluster; `postgres.create_database(name)` gives a URL."""
    with Postgres() as server:
        yield server


@pytest.fixture(scope="session")
def authorization_server() -> Iterator[AuthorizationServer]:
    """oidc-provider: strict rotation, a reuse revokes the grant."""
    with AuthorizationServer() as server:
        yield server


@pytest.fixture(scope="session")
def mtls_authorization_server() -> Iterator[AuthorizationServer]:
    """oidc-provider over TLS, which also takes client certificates."""
    with AuthorizationServer(client_certificates=True) as server:
        yield server


@pytest.fixture(scope="session")
def django_server() -> Iterator[DjangoServer]:
    """django-oauth-toolkit with no grace period at first; `configure(grace_period=...)` gives it one."""
    with DjangoServer() as server:
        yield server


@pytest.fixture(scope="session")
def aws_server() -> Iterator[AwsServer]:
    """moto: Secrets Manager and SSM."""
    with AwsServer() as server:
        yield server


@pytest.fixture
def scripted_server() -> Iterator[ScriptedServer]:
    """The scripted server over plain HTTP, a new one for each test."""
    with ScriptedServer() as server:
        yield server


@pytest.fixture
def scripted_tls_server() -> Iterator[ScriptedServer]:
    """The same over TLS; trust its `ca_file`."""
    with ScriptedServer(tls=True) as server:
        yield server
