"""One token request ends within its timeout, whatever name, network and server do; late, nothing is sent."""

from __future__ import annotations

import contextlib
import datetime
import json
import socket
import ssl
import threading
from dataclasses import replace

import pytest
import trustme

from airflow_oauth_provider.exceptions import TokenRequestError
from airflow_oauth_provider.oauth2 import errors
from airflow_oauth_provider.oauth2.client import Client, Transport
from airflow_oauth_provider.oauth2.token_endpoint import request_token
from airflow_oauth_provider.oauth2.transport import exchange
from airflow_oauth_provider.tokens.clock import SystemClock
from airflow_oauth_provider.tokens.lease import LeaseBudget
from tests.unit.fakes import Faults, World


@contextlib.contextmanager
def serving(handle, context: ssl.SSLContext | None = None):
    """Run ``handle(connection)`` for each connection to a port of this machine, and give the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection, contextlib.suppress(OSError):
                        handle(context.wrap_socket(connection, server_side=True) if context else connection)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(30)


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"])
def test_an_answer_that_drips_ends_with_the_timeout(start):
    over = threading.Event()

    def drip(connection):
        connection.recv(65536)
        connection.sendall(start)
        while not over.wait(0.05):
            connection.sendall(b"x: y\r\n" if start.endswith(b"OK\r\n") else b" ")

    with serving(drip) as port:
        with pytest.raises(errors.LostResponse, match="did not finish its response within"):
            exchange(Transport(timeout=0.5), "POST", f"http://127.0.0.1:{port}/token", {}, b"x=y")
        over.set()


def test_nothing_is_sent_by_a_connection_that_stands_too_late(monkeypatch):
    received = []
    slept = threading.Event()

    def late(*args, **kwargs):
        slept.wait(0.5)  # as long as several dead addresses, or a name server
        return connect(*args, **kwargs)

    from urllib3.util import connection as urllib3_connection

    connect = urllib3_connection.create_connection
    monkeypatch.setattr(urllib3_connection, "create_connection", late)
    with (
        serving(lambda connection: received.append(connection.recv(65536))) as port,
        pytest.raises(errors.NotConnected, match="no connection within"),
    ):
        exchange(Transport(timeout=0.2), "POST", f"http://127.0.0.1:{port}/token", {}, b"refresh_token=spend-me")
    assert not any(received)


def test_discovery_and_request_share_their_time():
    """The endpoint is looked up within the lease, too: where that takes the time, no refresh token leaves."""
    received = []

    def answer(connection):
        request = connection.recv(65536).decode()
        received.append(request)
        if request.startswith("POST"):
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            return
        threading.Event().wait(0.7)  # twice: RFC 8414, then OpenID Connect
        issuer = f"http://{request.partition('Host: ')[2].partition(chr(13))[0]}"
        body = json.dumps({"issuer": issuer, "token_endpoint": f"{issuer}/token"}).encode()
        status = b"200 OK" if "openid-configuration" in request else b"404 Not Found"
        head = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        connection.sendall(head % (status, len(body)) + body)

    with serving(answer) as port:
        client = Client("id", "", client_secret="s3cr3t", issuer=f"http://127.0.0.1:{port}", transport=Transport(0.9))
        with pytest.raises(errors.OAuth2ProtocolError):
            request_token(client, [("grant_type", "refresh_token"), ("refresh_token", "spend-me")])
    assert received
    assert not [request for request in received if request.startswith("POST")]


@pytest.fixture
def authority():
    return trustme.CA()


def server_context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


def test_a_tls_connection_that_breaks_after_the_request_has_lost_an_answer(authority, tmp_path):
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(bundle)

    def break_off(connection):
        connection.recv(65536)
        connection.unwrap = lambda: None
        socket.socket.sendall(connection, b"not a TLS record, which the client takes for a broken one")

    context, transport = server_context(authority.issue_cert("localhost")), Transport(timeout=10, verify=str(bundle))
    with serving(break_off, context) as port, pytest.raises(errors.LostResponse):
        exchange(transport, "POST", f"https://localhost:{port}/token", {}, b"x=y")


@pytest.mark.parametrize("is_expired", [True, False])
def test_a_certificate_out_of_its_time_passes_and_a_foreign_one_lasts(authority, tmp_path, is_expired):
    bundle = tmp_path / "ca.pem"
    (authority if is_expired else trustme.CA()).cert_pem.write_to_path(bundle)
    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    dates = {"not_before": past, "not_after": past + datetime.timedelta(days=1)} if is_expired else {}
    certificate = authority.issue_cert("localhost", **dates)
    context, transport = server_context(certificate), Transport(timeout=10, verify=str(bundle))
    with (
        serving(lambda connection: connection.recv(65536), context) as port,
        pytest.raises(errors.NotConnected) as caught,
    ):
        exchange(transport, "POST", f"https://localhost:{port}/token", {}, b"x=y")
    assert caught.value.lasting is not is_expired
    assert ("the clock of this machine" in str(caught.value)) is is_expired


class TestUnderALease:
    """A request that takes longer than its lease, against a server that answers when it is told to."""

    TIMEOUT = 60.0

    def world(self, port):
        world = World(timeout=self.TIMEOUT)
        client = replace(world.connection.configuration.client, token_url=f"http://127.0.0.1:{port}/token")
        world.connection.configuration = replace(world.connection.configuration, client=client)
        return world

    def manager(self, world, seam):
        budget = LeaseBudget(spend=0.6, write=60.0, rescue=60.0)
        manager, _ = world.worker(seam, clock=SystemClock(), budget=budget)
        manager._refresher = replace(manager._refresher, request=request_token)
        return manager

    def test_it_goes_on_for_as_long_as_the_lease_is_renewed(self):
        renewed = threading.Event()

        def answer_late(connection):
            connection.recv(65536)
            assert renewed.wait(60)
            body = json.dumps({"access_token": "at", "refresh_token": "rt-new", "expires_in": 600}).encode()
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
            connection.sendall(head % len(body) + body)

        def note(call):
            version = call()
            if world.record.lease is not None and world.record.lease.renewals >= 4:  # twice the time of one lease
                renewed.set()
            return version

        seam = Faults()
        seam.always["store.write"] = note
        with serving(answer_late) as port:
            world = self.world(port)
            assert self.manager(world, seam).access_token() == "at"
        assert world.record.refresh_token == "rt-new"

    def test_it_is_broken_off_where_the_lease_is_not_renewed_and_is_not_sent_again(self):
        over, received = threading.Event(), []

        def never_answer(connection):
            received.append(connection.recv(65536))
            over.wait(60)

        seam = Faults(store_write=[None])
        seam.always["store.write"] = "fail"
        with serving(never_answer) as port:
            world = self.world(port)
            with pytest.raises(TokenRequestError, match="did not finish its response"):
                self.manager(world, seam).access_token()
            over.set()
        assert len([request for request in received if request]) == 1
