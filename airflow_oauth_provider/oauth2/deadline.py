"""Connections that carry a request in time or not at all, end in time, and go to the addresses that were judged.

``requests`` knows a timeout for each address of a host and for each piece of a response. Several dead addresses, or a
response that drips, take many times as long: longer than a lease lasts. A request that goes out after that is spent
beside another worker.

A name may have a public address when it is judged, and one of this network when it is connected to (DNS rebinding). So
:func:`look_up_once` keeps the first addresses of each name.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from airflow_oauth_provider.oauth2 import errors
from airflow_oauth_provider.oauth2.client import is_loopback


class Bound:
    """The time that one exchange, or several together, have.

    :param seconds: from now on.
    :param outer: another bound that holds as well; None: there is none.
    """

    def __init__(self, seconds: float, outer: Bound | None = None) -> None:
        self._ends = time.monotonic() + seconds
        self._outer = outer
        self._timer: threading.Timer | None = None
        self._has_ended = False
        #: Whether a connection stood in time, so that the request may have gone out.
        self.is_connected = False
        #: Whether time was up before the response had ended.
        self.is_over = False

    @property
    def left(self) -> float:
        """Seconds left."""
        left = self._ends - time.monotonic()
        return left if self._outer is None else min(left, self._outer.left)

    def extend(self, seconds: float) -> None:
        """Give it ``seconds`` from now on."""
        self._ends = time.monotonic() + seconds

    def begin(self, connection: Any) -> None:
        """Let a request go out by ``connection``, which is shut when time is up.

        :raises ConnectTimeoutError: it stands too late: nothing is sent.
        """
        left = self.left
        if left <= 0:
            connection.close()
            raise ConnectTimeoutError(connection, "connected too late")
        self.is_connected = True
        self._watch(connection.sock, left)

    def _watch(self, sock: Any, seconds: float) -> None:
        self._timer = threading.Timer(seconds, self._shut, [sock])
        self._timer.daemon = True
        self._timer.start()

    def end(self) -> None:
        """Leave the connection alone from now on."""
        self._has_ended = True
        if self._timer is not None:
            self._timer.cancel()

    def _shut(self, sock: Any) -> None:
        if self._has_ended:
            return
        if self.left > 0:  # it has been extended meanwhile
            self._watch(sock, self.left)
            return
        self.is_over = True
        with contextlib.suppress(OSError):  # it has been closed already
            # Not its own method: that of a TLS socket would let the reader go on with what is not decrypted.
            socket.socket.shutdown(getattr(sock, "socket", sock), socket.SHUT_RDWR)


class _ThisThread(threading.local):
    """What holds for the exchanges of this thread.

    ``all``: the bound of several together. ``one``: that of the exchange that runs. ``addresses``: of the names that
    were looked up, where they are kept.
    """

    all: Bound | None = None
    one: Bound | None = None
    addresses: dict[str, list[str]] | None = None


_current = _ThisThread()


@contextlib.contextmanager
def _set(name: str, value: object) -> Iterator[None]:
    before = getattr(_current, name)
    setattr(_current, name, value)
    try:
        yield
    finally:
        setattr(_current, name, before)


@contextlib.contextmanager
def within(seconds: float) -> Iterator[Bound]:
    """Bound all exchanges of this thread in the block together, whatever bounds them already.

    :param seconds: from now on; another thread may extend the bound.
    """
    bound = Bound(seconds, _current.all)
    with _set("all", bound):
        yield bound


@contextlib.contextmanager
def exchange(seconds: float) -> Iterator[Bound]:
    """Bound one exchange, by a session that has :class:`Adapter`; by :func:`within`, too."""
    bound = Bound(seconds, _current.all)
    with _set("one", bound):
        try:
            yield bound
        finally:
            bound.end()


def look_up_once() -> contextlib.AbstractContextManager[None]:
    """Let each name keep, in this thread and in the block, the addresses that it had first."""
    return _set("addresses", {})


def find_addresses(host: str) -> list[str]:
    """Return the addresses of ``host``, of IPv4 and IPv6; none where nobody knows it."""
    known = {} if _current.addresses is None else _current.addresses
    if host not in known:
        try:
            entries = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM) if host else []
        except (OSError, UnicodeError):
            entries = []
        known[host] = list(dict.fromkeys(str(entry[4][0]) for entry in entries))
    return known[host]


class _Connection(HTTPConnection):
    """Connects to the addresses that :func:`look_up_once` keeps, where it does, and in time for its exchange."""

    def _new_conn(self) -> Any:
        connect = super()._new_conn
        if _current.addresses is None:
            return connect()
        name = self._dns_host
        found = find_addresses(name)
        if not found:
            raise NameResolutionError(name, self, socket.gaierror())
        try:
            for address in found[:-1]:
                self._dns_host = address
                with contextlib.suppress(NewConnectionError, ConnectTimeoutError):
                    return connect()
            self._dns_host = found[-1]
            return connect()
        finally:
            self._dns_host = name

    def connect(self) -> None:
        super().connect()
        if _current.one is not None:
            _current.one.begin(self)


class _LoopbackConnection(_Connection):
    """Stays on this machine: names such as ``x.localhost`` are looked up, too, and may lead elsewhere."""

    def _new_conn(self) -> Any:
        sock = super()._new_conn()
        if not is_loopback(str(sock.getpeername()[0]).partition("%")[0]):
            sock.close()
            raise errors.NotConnected(f"{self.host} is not this machine, and without TLS no credentials leave it")
        return sock


class _TlsConnection(_Connection, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _LoopbackPool(HTTPConnectionPool):
    ConnectionCls = _LoopbackConnection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class Adapter(HTTPAdapter):
    """Makes connections that know their bound; by SOCKS proxies, those of the library.

    :param carries_secrets: whether what goes without TLS has to stay on this machine.
    """

    def __init__(self, *, carries_secrets: bool = True) -> None:
        self._pools = {"http": _LoopbackPool if carries_secrets else _Pool, "https": _TlsPool}
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """See ``requests.adapters.HTTPAdapter``."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """See ``requests.adapters.HTTPAdapter``."""
        manager = super().proxy_manager_for(proxy, **kwargs)
        if not proxy.lower().startswith("socks"):
            manager.pool_classes_by_scheme = self._pools
        return manager
