"""Certificates for loopback: a CA of our own, a server's certificate, a client's, and one that is signed by itself."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa


class Certificates:
    """In `folder`: `ca.pem` to trust, `server.pem`; certificate and key in `client.pem` and `self-signed.pem`."""

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
        self.self_signed_file = folder / "self-signed.pem"
        self.self_signed = _write_self_signed(self.self_signed_file)

    def server_context(self, require_client: bool = False) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._server.configure_cert(context)
        if require_client:
            self._authority.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def _write_self_signed(path: Path) -> x509.Certificate:
    """A certificate that no CA vouches for: a server knows it by itself (RFC 8705 section 2.2)."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "airflow")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.touch(0o600)
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return certificate
