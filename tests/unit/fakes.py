"""Everything that the token life cycle talks to, in memory: time, store, fallback, authorization server, connection.

Each call passes a *seam*, a function ``seam(name, call)`` that may let it through, fail it, lose its answer, or do
something else first. The names are ``connection``, ``store.read``, ``store.write``, ``fallback.save``,
``fallback.load``, ``fallback.remove`` and ``token``.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_oauth_provider.exceptions import StaleVersion, StoreUnavailable
from airflow_oauth_provider.oauth2 import errors
from airflow_oauth_provider.oauth2.client import Client, Transport
from airflow_oauth_provider.oauth2.token_response import TokenResponse
from airflow_oauth_provider.tokens.clock import Clock
from airflow_oauth_provider.tokens.configuration import EnteredTokens, GrantConfiguration, RefreshPolicy, Snapshot
from airflow_oauth_provider.tokens.lease import LeaseBudget
from airflow_oauth_provider.tokens.manager import TokenManager
from airflow_oauth_provider.tokens.record import Record, StoredRecord

Seam = Callable[[str, Callable[[], object]], object]

#: When the worlds of these tests begin.
START = 1_900_000_000.0


def anew(text: str) -> str:
    """Return an equal string that is another object, as what is read from JSON is."""
    return "".join(list(text))


class Time:
    """The true time, which no worker's clock need agree with."""

    def __init__(self) -> None:
        self.now = START


class FakeClock:
    """One worker's clocks.

    :param time: the true time; sleeping lets it pass.
    :param skew: seconds by which the worker's wall clock is ahead; change it to make the clock jump.
    """

    def __init__(self, time: Time, skew: float = 0.0) -> None:
        self.time = time
        self.skew = skew
        self.slept: list[float] = []

    def now(self) -> float:
        return self.time.now + self.skew

    def elapsed(self) -> float:
        return self.time.now - START + 0.25  # soon after the start: no difference looks like a remainder

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0.0  # as time.sleep() demands
        self.slept.append(seconds)
        self.time.now += seconds


def failure_of(name: str) -> Exception:
    """Return what a call raises that was not carried out."""
    if name == "token":
        return errors.NotConnected("http://127.0.0.1/token: no connection (connection refused)")
    return StoreUnavailable(f"{name}: out of order")


def loss_of(name: str) -> Exception:
    """Return what a call raises that was carried out, and whose answer was lost."""
    if name == "token":
        return errors.LostResponse("http://127.0.0.1/token did not answer within 1 s")
    return StoreUnavailable(f"{name}: the answer was lost")


class Faults:
    """A seam with a script: for each name a list of what happens to the next calls.

    ``None`` lets the call through, ``"fail"`` prevents it, ``"lose"`` carries it out and loses the answer, an
    exception is raised instead, and a function is called with the call. What stands under ``name + "*"`` happens to
    all further calls. ``counts`` holds how often each seam was passed.
    """

    def __init__(self, **script: list[object]) -> None:
        self.script: dict[str, list[object]] = defaultdict(list)
        self.script.update({name.replace("_", "."): list(steps) for name, steps in script.items()})
        self.always: dict[str, object] = {}
        self.counts: Counter[str] = Counter()

    def __call__(self, name: str, call: Callable[[], object]) -> object:
        self.counts[name] += 1
        steps = self.script[name]
        step = steps.pop(0) if steps else self.always.get(name)
        if step is None:
            return call()
        if step == "fail":
            raise failure_of(name)
        if step == "lose":
            call()
            raise loss_of(name)
        if isinstance(step, BaseException):
            raise step
        assert callable(step)
        return step(call)


@dataclass
class Cell:
    """What a store keeps; the stores of all workers share one.

    :param history: every record ever written, with the version it replaced.
    """

    record: Record | None = None
    number: int = 0
    history: list[tuple[Record | None, Record]] = field(default_factory=list)

    @property
    def version(self) -> str | None:
        return None if self.record is None else str(self.number)


class MemoryStore:
    """A store with an exact compare-and-set. Records travel as JSON, as in every real store."""

    name = "memory"
    sealed_with: tuple[str, ...] = ()
    settle_time = 0.0

    def __init__(self, cell: Cell, seam: Seam) -> None:
        self.cell = cell
        self.seam = seam

    def read(self) -> StoredRecord:
        return self.seam("store.read", self._read)  # type: ignore[return-value]

    def write(self, record: Record, *, if_version: str | None) -> str:
        return self.seam("store.write", lambda: self._write(record, if_version))  # type: ignore[return-value]

    def _read(self) -> StoredRecord:
        return StoredRecord(self.cell.record, self.cell.version, settle_time=self.settle_time)

    def _write(self, record: Record, if_version: str | None) -> str:
        if if_version != self.cell.version:
            if self.cell.record == record and record.lease is not None:
                return str(self.cell.number)  # its own write, whose answer was lost
            raise StaleVersion("the store holds another version")
        return self.overwrite(record)

    def overwrite(self, record: Record) -> str:
        """Write whatever the store holds: what a store must never do."""
        record = Record.from_json(record.to_json())
        self.cell.history.append((self.cell.record, record))
        self.cell.record, self.cell.number = record, self.cell.number + 1
        return str(self.cell.number)


class MemoryFallback:
    """A fallback store; the workers' ones share ``kept``."""

    def __init__(self, kept: dict[str, str], seam: Seam) -> None:
        self.kept = kept
        self.seam = seam

    def save(self, key: str, ciphertext: str) -> None:
        self.seam("fallback.save", lambda: self.kept.__setitem__(key, ciphertext))

    def load(self, key: str) -> str | None:
        return self.seam("fallback.load", lambda: self.kept.get(key))  # type: ignore[return-value]

    def remove(self, key: str) -> None:
        self.seam("fallback.remove", lambda: self.kept.pop(key, None))


class Connection:
    """The connection as people see it; ``configuration`` is what the workers read."""

    def __init__(self, configuration: GrantConfiguration) -> None:
        self.configuration = configuration

    def enter(self, refresh_token: str) -> None:
        """A person has signed in again and enters the new refresh token."""
        self.configuration = replace(self.configuration, entered=EnteredTokens(refresh_token))


class FakeSource:
    """Reads connection and record.

    :param frozen: the connection as this worker sees it for ever: its environment is never read again.
    """

    def __init__(
        self, connection: Connection, store: MemoryStore, seam: Seam, frozen: GrantConfiguration | None = None
    ) -> None:
        self.connection = connection
        self.store = store
        self.seam = seam
        self.frozen = frozen

    def load(self) -> Snapshot:
        configuration = self.seam("connection", lambda: self.frozen or self.connection.configuration)
        stored = self.store.read()
        return Snapshot(configuration, self.store, stored.record, stored.version, stored.settle_time)  # type: ignore[arg-type]


@dataclass
class Grant:
    """One sign-in at the server."""

    newest: str
    alive: bool = True
    #: Spent refresh tokens, and when and for what answer they were spent.
    spent: dict[str, tuple[float, TokenResponse]] = field(default_factory=dict)


class StrictServer:
    """An authorization server that rotates, and revokes the whole grant at the first reuse.

    :param time: the true time.
    :param lifetime: of access tokens, in seconds.
    :param grace: seconds within which a spent refresh token brings the same answer again; None: for ever.
    :param rotates: whether a refresh brings a new refresh token.
    """

    def __init__(
        self, time: Time, *, lifetime: float | None = 600.0, grace: float | None = 0.0, rotates: bool = True
    ) -> None:
        self.time = time
        self.lifetime = lifetime
        self.grace = grace
        self.rotates = rotates
        self.grants: list[Grant] = []
        self.calls: list[dict[str, str]] = []
        self.refreshes = 0
        self.reuses = 0
        self.refusals = 0
        self.issued: dict[str, float] = {}
        self._number = 0

    def sign_in(self) -> str:
        """Return the refresh token of a new grant."""
        grant = Grant(self._new("rt"))
        self.grants.append(grant)
        return grant.newest

    def revoke(self) -> None:
        """Revoke all grants."""
        for grant in self.grants:
            grant.alive = False

    @property
    def alive(self) -> bool:
        """Whether the newest grant is alive."""
        return self.grants[-1].alive

    def is_good(self, access_token: str) -> bool:
        """Tell whether the API would accept ``access_token`` now."""
        return self.issued.get(access_token, 0.0) > self.time.now

    def answer(self, parameters: dict[str, str]) -> TokenResponse:
        """Serve a token request."""
        self.calls.append(parameters)
        if parameters["grant_type"] == "client_credentials":
            self.refreshes += 1
            return self._tokens(None)
        token = parameters["refresh_token"]
        grant = next((grant for grant in self.grants if token == grant.newest or token in grant.spent), None)
        if grant is None or not grant.alive:
            self.refusals += 1
            raise _invalid_grant()
        if token in grant.spent:
            at, answer = grant.spent[token]
            if self.grace is None or self.time.now - at <= self.grace:
                return answer
            self.reuses += 1
            self.refusals += 1
            grant.alive = False
            raise _invalid_grant()
        self.refreshes += 1
        new = self._tokens(self._new("rt") if self.rotates else None)
        if new.refresh_token:
            grant.spent[token] = (self.time.now, new)
            grant.newest = new.refresh_token
        return new

    def _tokens(self, refresh_token: str | None) -> TokenResponse:
        access_token = self._new("at")
        self.issued[access_token] = self.time.now + (self.lifetime or 600.0)
        return TokenResponse(access_token, expires_in=self.lifetime, refresh_token=refresh_token)

    def _new(self, kind: str) -> str:
        self._number += 1
        return f"{kind}-{self._number}"


def _invalid_grant() -> errors.InvalidGrantResponse:
    return errors.InvalidGrantResponse("http://127.0.0.1/token answered 400: invalid_grant", code="invalid_grant")


class World:
    """One connection, its server and its store, and any number of workers.

    :param policy: when to refresh.
    :param timeout: the connection's HTTP timeout, from which the lease's length follows.
    :param grant_type: the connection's grant.
    :param server: keyword arguments of :class:`StrictServer`.
    """

    def __init__(
        self,
        policy: RefreshPolicy | None = None,
        *,
        timeout: float = 10.0,
        grant_type: str = "refresh_token",
        has_fallback: bool = True,
        **server: object,
    ) -> None:
        self.time = Time()
        self.server = StrictServer(self.time, **server)  # type: ignore[arg-type]
        self.cell = Cell()
        self.kept: dict[str, str] = {}
        self.has_fallback = has_fallback
        client = Client(
            "client", "http://127.0.0.1:9/token", client_secret="hush", transport=Transport(timeout=timeout)
        )
        entered = EnteredTokens(self.server.sign_in() if grant_type == "refresh_token" else None)
        policy = policy or RefreshPolicy(leeway=60.0)
        policy = replace(policy, when=anew(policy.when))
        self.connection = Connection(
            GrantConfiguration("xero", client, anew(grant_type), entered=entered, policy=policy)
        )
        self.masked: set[str] = set()

    @property
    def lease(self) -> float:
        """Length of a lease in seconds."""
        return LeaseBudget.for_timeout(self.connection.configuration.client.transport.timeout).total

    @property
    def record(self) -> Record:
        """What the store holds."""
        assert self.cell.record is not None
        return self.cell.record

    def sign_in_again(self) -> str:
        """A person signs in again and enters the new refresh token."""
        token = self.server.sign_in()
        self.connection.enter(token)
        return token

    def pass_time(self, seconds: float) -> None:
        self.time.now += seconds

    def worker(
        self, seam: Seam | None = None, *, clock: Clock | None = None, frozen: bool = False, **more: Any
    ) -> tuple[TokenManager, Faults]:
        """Return another process's manager, and its seam; ``more`` goes to the manager."""
        faults = seam or Faults()
        clock = clock or FakeClock(self.time)
        store = MemoryStore(self.cell, faults)
        source = FakeSource(self.connection, store, faults, self.connection.configuration if frozen else None)
        fallback = MemoryFallback(self.kept, faults) if self.has_fallback else None

        def request(client: Client, parameters: object) -> TokenResponse:
            assert client.client_secret == "hush"
            return faults("token", lambda: self.server.answer(dict(parameters)))  # type: ignore[return-value,call-overload]

        manager = TokenManager(source, fallback, request=request, clock=clock, mask=self.masked.add, **more)
        return manager, faults  # type: ignore[return-value]
