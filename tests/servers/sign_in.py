"""A person signing in, scripted: the authorization-code flow with PKCE (RFC 7636) through the servers' own forms.

    tokens = sign_in(authorization_server)             # {"access_token": ..., "refresh_token": ..., ...}
    tokens = sign_in(django_server)

Follows the redirects, fills in and posts the forms, exchanges the code.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from collections.abc import Sequence
from html.parser import HTMLParser
from typing import Any, Protocol
from urllib.parse import parse_qs, quote_plus, urlencode, urljoin, urlsplit

import requests

from tests.servers.processes import ServerError

_MOST_STEPS = 12


class ClientLike(Protocol):
    @property
    def client_id(self) -> str: ...
    @property
    def client_secret(self) -> str: ...
    @property
    def auth_method(self) -> str: ...


class ServerLike(Protocol):
    @property
    def token_url(self) -> str: ...
    @property
    def authorization_url(self) -> str: ...
    @property
    def ca_file(self) -> str | None: ...
    def client(self, name: str = ...) -> Any: ...


def sign_in(
    server: ServerLike,
    client: str = "basic",
    *,
    scope: str = "read write",
    redirect_uri: str = "http://127.0.0.1/callback",
    user: str = "test-user",
    password: str = "test-password",
    resources: Sequence[str] = (),
    dpop_key: str = "",
    **parameters: str,
) -> dict[str, Any]:
    """Sign in as `user` and give the whole token answer. `parameters` go into the authorization request.

    The grant is for all of `resources` (RFC 8707), the first access token for the first of them. With `dpop_key`, the
    PEM of a P-256 key, the tokens are bound to it (RFC 9449).
    """
    registered: ClientLike = server.client(client)
    browser = _session(server)
    verifier = secrets.token_urlsafe(48)
    state = secrets.token_urlsafe(16)
    request = {
        "response_type": "code",
        "client_id": registered.client_id,
        "redirect_uri": redirect_uri,
        "scope": scope,
        "state": state,
        "code_challenge": base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode(),
        "code_challenge_method": "S256",
        "resource": list(resources),
        **parameters,
    }
    first = f"{server.authorization_url}?{urlencode(request, doseq=True)}"
    arrived = authorize_in_browser(browser, first, redirect_uri, user, password)
    if arrived.get("state") != state or "code" not in arrived:
        raise ServerError(f"Signing in ended without a code: {arrived.get('error')} {arrived.get('error_description')}")
    form = {
        "grant_type": "authorization_code",
        "code": arrived["code"],
        "redirect_uri": redirect_uri,
        "code_verifier": verifier,
    }
    if resources:
        form["resource"] = resources[0]
    return token_request(server, registered, form, dpop_key)


def authorize_in_browser(
    browser: requests.Session, url: str, redirect_uri: str, user: str = "test-user", password: str = "test-password"
) -> dict[str, str]:
    """Be the person at the browser, from the authorization request to the redirect; gives what it carries.

    For a client that listens on its redirect URI itself: call that with what this gives.
    """
    answer = browser.get(url, allow_redirects=False, timeout=30)
    for _ in range(_MOST_STEPS):
        if answer.is_redirect:
            target = urljoin(answer.url, answer.headers["Location"])
            if _same_place(target, redirect_uri):
                return {name: values[0] for name, values in parse_qs(urlsplit(target).query).items()}
            answer = browser.get(target, allow_redirects=False, timeout=30)
        elif answer.ok:
            answer = _submit(browser, answer, user, password)
        else:
            raise ServerError(
                f"Signing in: {_without_query(answer.url)} gave {answer.status_code}: {answer.text[:1000]}"
            )
    raise ServerError(f"Signing in did not end within {_MOST_STEPS} steps; the last was {_without_query(answer.url)}")


def approve_device(server: ServerLike, verification_uri_complete: str, user: str = "test-user") -> None:
    """Be the person who approves a device code (RFC 8628) at oidc-provider."""
    browser = _session(server)
    answer = browser.get(verification_uri_complete, timeout=30)
    for _ in range(_MOST_STEPS):
        if not answer.ok:
            raise ServerError(f"Approving the device gave {answer.status_code}: {answer.text[:1000]}")
        if "<form" not in answer.text or "Sign-in Success" in answer.text:
            return
        answer = _submit(browser, answer, user, "test-password", follow=True)
    raise ServerError(f"Approving the device did not end within {_MOST_STEPS} steps")


def refuse_device(server: ServerLike, verification_uri_complete: str) -> None:
    """Be the person who opens a device code's address at oidc-provider, and aborts."""
    browser = _session(server)
    answer = browser.get(verification_uri_complete, timeout=30)
    for _ in range(_MOST_STEPS):
        if 'name="abort"' in answer.text:
            form = _Form.first_in(answer)
            browser.post(urljoin(answer.url, form.action), data={**form.values, "abort": "yes"}, timeout=30)
            return
        answer = _submit(browser, answer, "nobody", "", follow=True)
    raise ServerError(f"There was nothing to abort within {_MOST_STEPS} steps")


def token_request(
    server: ServerLike, client: ClientLike, form: dict[str, str], dpop_key: str = "", nonce: str = ""
) -> dict[str, Any]:
    """Send `form` to the token endpoint as `client`; a `ServerError` unless tokens come back.

    This does not share a line with the package under test.
    """
    http = _session(server, client)
    headers = {}
    fields, form = form, dict(form)
    if client.auth_method == "client_secret_basic":
        pair = f"{quote_plus(client.client_id)}:{quote_plus(client.client_secret)}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    elif client.auth_method in ("client_secret_jwt", "private_key_jwt"):
        form |= {
            "client_id": client.client_id,
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": _assertion(server, client),
        }
    else:
        form["client_id"] = client.client_id
        if client.auth_method == "client_secret_post":
            form["client_secret"] = client.client_secret
    if dpop_key:
        headers["DPoP"] = _proof(server, dpop_key, nonce)
    answer = http.post(server.token_url, data=form, headers=headers, timeout=30)
    if dpop_key and not nonce and "use_dpop_nonce" in answer.text:
        return token_request(server, client, fields, dpop_key, answer.headers["DPoP-Nonce"])
    if not answer.ok:
        raise ServerError(f"The token endpoint gave {answer.status_code}: {answer.text[:500]}")
    tokens: dict[str, Any] = answer.json()
    return tokens


def _assertion(server: ServerLike, client: Any) -> str:
    import jwt

    now = int(time.time())
    issuer = server.token_url.rpartition("/")[0]
    claims = {"iss": client.client_id, "sub": client.client_id, "aud": issuer, "iat": now, "exp": now + 60}
    claims["jti"] = secrets.token_urlsafe(12)
    if client.auth_method == "client_secret_jwt":
        return jwt.encode(claims, client.client_secret, algorithm="HS256")
    return jwt.encode(claims, client.private_key, algorithm="RS256", headers={"kid": client.key_id})


def _proof(server: ServerLike, key: str, nonce: str) -> str:
    import jwt
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from jwt.algorithms import ECAlgorithm

    loaded: Any = load_pem_private_key(key.encode(), None)
    header = {"typ": "dpop+jwt", "jwk": ECAlgorithm.to_jwk(loaded.public_key(), as_dict=True)}
    claims: dict[str, Any] = {"jti": secrets.token_urlsafe(12), "htm": "POST", "htu": server.token_url}
    claims |= {"iat": int(time.time())} | ({"nonce": nonce} if nonce else {})
    return jwt.encode(claims, loaded, algorithm="ES256", headers=header)


def _session(server: ServerLike, client: ClientLike | None = None) -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    if server.ca_file:
        session.verify = server.ca_file
        certificates = getattr(server, "certificates", None)
        if certificates:
            self_signed = client is not None and client.auth_method == "self_signed_tls_client_auth"
            session.cert = str(certificates.self_signed_file if self_signed else certificates.client_file)
    return session


def _submit(
    browser: requests.Session, page: requests.Response, user: str, password: str, follow: bool = False
) -> requests.Response:
    form = _Form.first_in(page)
    values = dict(form.values)
    for name in values:
        if name in ("login", "username"):
            values[name] = user
        elif name == "password":
            values[name] = password
    target = urljoin(page.url, form.action or page.url)
    # Django checks where a form came from.
    headers = {"Referer": page.url}
    return browser.post(target, data=values, headers=headers, allow_redirects=follow, timeout=30)


def _same_place(url: str, other: str) -> bool:
    one, two = urlsplit(url), urlsplit(other)
    return (one.scheme, one.netloc, one.path) == (two.scheme, two.netloc, two.path)


def _without_query(url: str) -> str:
    return url.partition("?")[0]


class _Form(HTMLParser):
    """The first form of a page that is sent by POST: where to, and what its fields hold."""

    def __init__(self) -> None:
        super().__init__()
        self.action = ""
        self.values: dict[str, str] = {}
        self._inside = False
        self._done = False

    @classmethod
    def first_in(cls, page: requests.Response) -> _Form:
        parser = cls()
        parser.feed(page.text)
        if not parser._done and not parser._inside:
            raise ServerError(f"No form to fill in at {_without_query(page.url)}: {page.text[:500]}")
        return parser

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag == "form" and not self._done and found.get("method", "").lower() == "post":
            self._inside = True
            self.action = found.get("action", "")
        elif self._inside and tag in ("input", "button") and (name := found.get("name")):
            submits = found.get("type") == "submit"
            self.values[name] = found.get("value", "") if submits else self.values.get(name, found.get("value", ""))

    def handle_endtag(self, tag: str) -> None:
        if tag == "form" and self._inside:
            self._inside, self._done = False, True
