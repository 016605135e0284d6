"""Connections that carry a request in time or not at all, and that end in time.

``requests`` knows a timeout for each address of a host and for each piece of a response. Several dead addresses, or a
response that drips, take many times as long: longer than a lease lasts. A request that goes out after that is spent
beside another worker.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from airflow_oauth_provider.oauth2 import addresses, errors
from airflow_oauth_provider.oauth2.client import is_loopback

_current = threading.local()


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


@contextlib.contextmanager
def within(seconds: float) -> Iterator[Bound]:
    """Bound all exchanges of this thread in the block together, whatever bounds them already.

    :param seconds: from now on; another thread may extend the bound.
    """
    before: Bound | None = getattr(_current, "all", None)
    _current.all = Bound(seconds, before)
    try:
        yield _current.all
    finally:
        _current.all = before


@contextlib.contextmanager
def exchange(seconds: float) -> Iterator[Bound]:
    """Bound one exchange, by a session that has :class:`Adapter`; by :func:`within`, too."""
    bound = _current.one = Bound(seconds, getattr(_current, "all", None))
    try:
        yield bound
    finally:
        _current.one = None
        bound.end()


class _ToKnownAddresses:
    """Connects to the addresses that the name has by now, where they are kept; see :mod:`addresses`."""

    _dns_host: str

    def _new_conn(self) -> Any:
        connect: Callable[[], Any] = super()._new_conn  # type: ignore[misc]
        if not addresses.are_kept():
            return connect()
        name = self._dns_host
        found = addresses.find(name)
        if not found:
            raise NameResolutionError(name, self, socket.gaierror())  # type: ignore[arg-type]
        try:
            for address in found[:-1]:
                self._dns_host = address
                with contextlib.suppress(NewConnectionError, ConnectTimeoutError):
                    return connect()
            self._dns_host = found[-1]
            return connect()
        finally:
            self._dns_host = name


class _Connection(_ToKnownAddresses, HTTPConnection):
    def connect(self) -> None:
        super().connect()
        _check_peer(self)
        _begin(self)


class _OpenConnection(_ToKnownAddresses, HTTPConnection):
    def connect(self) -> None:
        super().connect()
        _begin(self)


class _TlsConnection(_ToKnownAddresses, HTTPSConnection):
    def connect(self) -> None:
        super().connect()
        _begin(self)


def _check_peer(connection: Any) -> None:
    """Leave a connection without TLS that ended up elsewhere: names such as ``x.localhost`` are looked up, too."""
    peer = str(connection.sock.getpeername()[0]).partition("%")[0]
    if not is_loopback(peer):
        connection.close()
        raise errors.NotConnected(f"{connection.host} is not this machine, and without TLS no credentials leave it")


def _begin(connection: Any) -> None:
    bound: Bound | None = getattr(_current, "one", None)
    if bound is not None:
        bound.begin(connection)


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _OpenPool(HTTPConnectionPool):
    ConnectionCls = _OpenConnection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class Adapter(HTTPAdapter):
    """Makes connections that know their bound; by SOCKS proxies, those of the library.

    :param carries_secrets: whether what goes without TLS has to stay on this machine.
    """

    def __init__(self, *, carries_secrets: bool = True) -> None:
        self._pools = {"http": _Pool if carries_secrets else _OpenPool, "https": _TlsPool}
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
