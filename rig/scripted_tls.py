"""Certificates for loopback: a CA of our own, a server's certificate, a client's."""

from __future__ import annotations

import ssl
from pathlib import Path

import trustme


class Certificates:
    """Written to `folder`: `ca.pem` to trust, `server.pem`, and `client.pem` (certificate and key in one file)."""

    def __init__(self, folder: Path) -> None:
        self._authority = trustme.CA()
        self._server = self._authority.issue_cert("127.0.0.1", "localhost", "::1")
        self.ca_file = folder / "ca.pem"
        self._authority.cert_pem.write_to_path(str(self.ca_file))
        self.server_file = folder / "server.pem"
        self._server.private_key_and_cert_chain_pem.write_to_path(str(self.server_file))
        self.client_file = folder / "client.pem"
        client = self._authority.issue_cert("airflow@example.org", common_name="airflow")
        client.private_key_and_cert_chain_pem.write_to_path(str(self.client_file))
        self.client_key_file = folder / "client-key.pem"
        client.private_key_pem.write_to_path(str(self.client_key_file))
        self.client_cert_file = folder / "client-cert.pem"
        client.cert_chain_pems[0].write_to_path(str(self.client_cert_file))

    def server_context(self, require_client: bool = False) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._server.configure_cert(context)
        if require_client:
            self._authority.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        return context
