"""`oidc-provider`, an OpenID-certified authorization server, with strict rotation and reuse detection.

    with AuthorizationServer(access_token_lifetime=5) as server:
        tokens = sign_in(server)                       # tests.servers.sign_in: the authorization-code flow with PKCE
        client = server.client("basic")
        ...
        assert server.stats()["reuses"] == 0

A refresh token that is presented a second time takes its grant and all its tokens with it.
"""

from __future__ import annotations

import base64
import json
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from scripts.environments import clean_environ, node
from tests.servers.processes import Process, Server, wait_until
from tests.servers.scripted_tls import Certificates

HERE = Path(__file__).resolve().parent
REDIRECT_URI = "http://127.0.0.1/callback"
"""A native client's redirect (RFC 8252, section 7.3): any port of the loopback address does."""

AUTH_METHODS = {
    "basic": "client_secret_basic",
    "post": "client_secret_post",
    "public": "none",
    "secret-jwt": "client_secret_jwt",
    "key-jwt": "private_key_jwt",
    "tls": "tls_client_auth",
    "self-signed-tls": "self_signed_tls_client_auth",
}
BY_CERTIFICATE = ("tls", "self-signed-tls")


@dataclass(frozen=True)
class Client:
    """A registered client and what it needs to authenticate."""

    name: str
    client_id: str
    auth_method: str
    client_secret: str = field(default="", repr=False)
    private_key: str = field(default="", repr=False)
    """PEM, for `private_key_jwt`."""
    key_id: str = ""


class AuthorizationServer(Server):
    """Lifetimes are seconds. Change a setting while it runs with `configure(access_token_lifetime=2)`.

    DPoP (RFC 9449): with `dpop_required` no client gets a token without a proof, with `dpop_nonce` a proof needs the
    server's nonce. The API wants `api_dpop_nonce` where that is set, and with `api_dpop_rotates` a new one each time.
    """

    name = "authorization-server"

    def __init__(
        self,
        *,
        access_token_lifetime: int = 3600,
        refresh_token_lifetime: int = 1209600,
        rotate: bool = True,
        pages: int = 5,
        dpop_nonce: bool = False,
        dpop_required: bool = False,
        device_code_lifetime: int = 600,
        resources: list[str] | None = None,
        api_audience: str | None = None,
        tls: bool = False,
        client_certificates: bool = False,
        extra_clients: list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {
            "access_token_lifetime": access_token_lifetime,
            "refresh_token_lifetime": refresh_token_lifetime,
            "rotate": rotate,
            "pages": pages,
            "dpop_nonce": dpop_nonce,
            "device_code_lifetime": device_code_lifetime,
            # None: any will do.
            "resources": resources,
            "api_audience": api_audience,
            "api_dpop_nonce": None,
            "api_dpop_rotates": False,
        }
        self._dpop_required = dpop_required
        self.url = ""
        self.certificates: Certificates | None = None
        self._tls = tls or client_certificates
        self._client_certificates = client_certificates
        self._extra_clients = extra_clients or []
        self._clients: dict[str, Client] = {}
        self.session = requests.Session()
        self.session.trust_env = False

    # Where it is

    @property
    def issuer(self) -> str:
        return self.url

    @property
    def token_url(self) -> str:
        return f"{self.url}/token"

    @property
    def api_url(self) -> str:
        """The protected API's base: `/items?page=1` below it."""
        return f"{self.url}/api"

    @property
    def authorization_url(self) -> str:
        return f"{self.url}/auth"

    @property
    def device_url(self) -> str:
        return f"{self.url}/device/auth"

    @property
    def ca_file(self) -> str | None:
        return str(self.certificates.ca_file) if self.certificates else None

    def client(self, name: str = "basic") -> Client:
        """One of AUTH_METHODS; "tls" and "self-signed-tls" only with `client_certificates`."""
        return self._clients[name]

    # What happened

    def stats(self) -> dict[str, int]:
        """`spends`, `reuses`, `grants_revoked`, `token_requests`, `api_requests`."""
        counts: dict[str, int] = self._control("stats")
        return counts

    def token_log(self) -> list[dict[str, Any]]:
        """Each request to the token endpoint: grant type, fingerprints, client, status, error, reuse."""
        entries: list[dict[str, Any]] = self._control("log")["token"]
        return entries

    def api_log(self) -> list[dict[str, Any]]:
        """Each request to the API with its headers; of the token a fingerprint."""
        entries: list[dict[str, Any]] = self._control("log")["api"]
        return entries

    def configure(self, **settings: Any) -> None:
        """Change settings while it runs."""
        if unknown := settings.keys() - self.settings.keys():
            raise ValueError(f"unknown settings: {sorted(unknown)}")
        self.settings |= settings
        self._control("settings", settings)

    def _control(self, what: str, body: dict[str, Any] | None = None) -> Any:
        answer = self.session.post(f"{self.url}/_rig/{what}", json=body or {}, timeout=30)
        answer.raise_for_status()
        return answer.json()

    def _launch(self) -> None:
        if self._tls and self.certificates is None:
            self.certificates = Certificates(self.folder)
            self.session.verify = str(self.certificates.ca_file)
            self.session.cert = str(self.certificates.client_file) if self._client_certificates else None
        settings = self.folder / "settings.json"
        ready = self.folder / "ready.json"
        settings.touch(0o600)
        settings.write_text(json.dumps(self._all_settings()))
        command = [node(), HERE / "server.js", settings, ready]
        self.process = Process(self.name, command, self.log, clean_environ(NODE_ENV="test"), cwd=HERE)
        wait_until(ready.exists, 30, "oidc-provider listens", self.process, every=0.02)
        self.url = json.loads(ready.read_text())["url"]

    def _all_settings(self) -> dict[str, Any]:
        names = [name for name in AUTH_METHODS if name not in BY_CERTIFICATE or self._client_certificates]
        clients = [self._register(name) for name in names] + self._extra_clients
        tls = None
        if self.certificates:
            tls = {
                "file": str(self.certificates.server_file),
                "ca_file": str(self.certificates.ca_file),
                "require_client": self._client_certificates,
            }
        methods = [AUTH_METHODS[name] for name in names]
        return {**self.settings, "clients": clients, "client_auth_methods": methods, "tls": tls}

    def _register(self, name: str) -> dict[str, Any]:
        method = AUTH_METHODS[name]
        # Characters that break wherever somebody forgot to encode (RFC 6749, section 2.3.1 and appendix B).
        secret = f"s3cret:+/ %&={secrets.token_hex(16)}" if method.startswith("client_secret") else ""
        metadata: dict[str, Any] = {
            "client_id": f"airflow-{name}",
            "token_endpoint_auth_method": method,
            "application_type": "native",
            "redirect_uris": [REDIRECT_URI],
            "grant_types": ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"],
            "response_types": ["code"],
            "dpop_bound_access_tokens": self._dpop_required,
        }
        if method != "none":
            metadata["grant_types"].append("client_credentials")
        if secret:
            metadata["client_secret"] = secret
        pem = ""
        if method == "private_key_jwt":
            pem, public = _key_pair("airflow-key")
            metadata["jwks"] = {"keys": [public]}
        if method == "tls_client_auth":
            metadata["tls_client_auth_san_email"] = "airflow@example.org"
        if method == "self_signed_tls_client_auth":
            metadata["jwks"] = {"keys": [_certificate_key(self.certificates)]}
        self._clients[name] = Client(name, metadata["client_id"], method, secret, pem, "airflow-key" if pem else "")
        return metadata


def _key_pair(key_id: str) -> tuple[str, dict[str, Any]]:
    """A new RSA key: the private one as PEM, the public one as JWK."""
    from jwt.algorithms import RSAAlgorithm

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    public = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return pem, {**public, "kid": key_id, "use": "sig", "alg": "RS256"}


def _certificate_key(certificates: Certificates | None) -> dict[str, Any]:
    """The self-signed certificate as a JWK, as RFC 8705 section 2.2.2 registers it."""
    from jwt.algorithms import RSAAlgorithm

    assert certificates is not None
    certificate = certificates.self_signed
    key = certificate.public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    encoded = base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()
    return {**RSAAlgorithm.to_jwk(key, as_dict=True), "kid": "self-signed", "x5c": [encoded]}
