"""A person's session with the pages: protects from forged requests, and encrypts what the browser keeps.

The API server may have several workers, and none of them remembers anything. State that outlasts a request is in a
cookie, encrypted with a key made from a secret that all workers share.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from cryptography.fernet import Fernet, InvalidToken
from fastapi import HTTPException, Request
from starlette.responses import Response

from airflow_oauth_provider.compat import api_server

#: The cookie to which form tokens are bound.
SESSION_COOKIE = "oauth2_session"
FORM_FIELD = "form_token"
FORM_HEADER = "x-form-token"
#: Seconds for which a session cookie is good.
_SESSION_LIFETIME = 12 * 3600
#: Bytes of a form: names of connections and one token.
_MAX_FORM = 16_384


def session_id(request: Request) -> str:
    """Return the id of this browser's session with the pages, a new one where it has none yet."""
    known = request.cookies.get(SESSION_COOKIE, "")
    if len(known) >= 32:
        return known
    if not hasattr(request.state, "oauth2_session"):
        request.state.oauth2_session = secrets.token_urlsafe(32)
    fresh: str = request.state.oauth2_session
    return fresh


def form_token(request: Request, user: Any) -> str:
    """Return what a form has to send along: bound to the browser's session and to the person."""
    text = f"{session_id(request)}\n{user.get_name()}"
    return hmac.new(_key("form"), text.encode(), hashlib.sha256).hexdigest()


def keep_session(request: Request, response: Response) -> None:
    """Let the browser keep its session."""
    if request.cookies.get(SESSION_COOKIE) != session_id(request):
        set_cookie(request, response, SESSION_COOKIE, session_id(request), _SESSION_LIFETIME)


def check_form(request: Request, sent: str, user: Any) -> None:
    """Refuse (403) a request that changes something unless the pages have sent it, with the form token ``sent``."""
    # No browser sends a bearer token by itself, so such a request cannot be forged.
    if request.headers.get("authorization", "").lower().startswith("bearer "):
        return
    if not _is_same_origin(request):
        raise HTTPException(403, "This request comes from another site.")
    if not hmac.compare_digest(sent.encode(), form_token(request, user).encode()):
        raise HTTPException(403, "The form is too old, or belongs to another session. Reload the page and try again.")


def _is_same_origin(request: Request) -> bool:
    """Tell whether a page of this server has sent the request, as far as the browser says."""
    site = request.headers.get("sec-fetch-site")
    if site is not None and site != "same-origin":
        return False
    origin = request.headers.get("origin")
    if origin is None:
        return True  # the form token decides
    host = urlsplit(origin).netloc.lower()
    return host in (request.headers.get("host", "").lower(), urlsplit(api_server.base_url()).netloc.lower())


async def read_form(request: Request) -> dict[str, str]:
    """Return the fields of a form (``application/x-www-form-urlencoded``), each the first of its name."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_FORM:
            raise HTTPException(413, "The form is too large.")
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=50)
    except ValueError:
        raise HTTPException(400, "The form cannot be read.") from None
    return dict(reversed(pairs))


def seal(purpose: str, members: dict[str, Any]) -> str:
    """Return ``members``, encrypted and signed; :func:`unseal` opens it for the same purpose only."""
    return _fernet(purpose).encrypt(json.dumps(members).encode()).decode()


def unseal(purpose: str, text: str | None, lifetime: int) -> dict[str, Any] | None:
    """Return what :func:`seal` was given; None where it was not sealed here, or more than ``lifetime`` seconds ago."""
    if not text:
        return None
    try:
        members = json.loads(_fernet(purpose).decrypt(text.encode(), ttl=lifetime))
    except (InvalidToken, ValueError):
        return None
    return members if isinstance(members, dict) else None


def set_cookie(request: Request, response: Response, name: str, value: str, lifetime: int) -> None:
    """Set a cookie for ``lifetime`` seconds that is hidden from scripts and from other paths of this server."""
    # Lax and not Strict: the browser has to send it when it comes back from the authorization server's site.
    response.set_cookie(
        name, value, max_age=lifetime, path=_path(), secure=_is_secure(request), httponly=True, samesite="lax"
    )


def delete_cookie(response: Response, name: str) -> None:
    """Delete a cookie of :func:`set_cookie`."""
    response.delete_cookie(name, path=_path(), httponly=True, samesite="lax")


def _path() -> str:
    return f"{api_server.base_path()}{api_server.PAGES_PREFIX}"


def _is_secure(request: Request) -> bool:
    return "https" in (request.url.scheme, urlsplit(api_server.base_url()).scheme)


def _key(purpose: str) -> bytes:
    secret = api_server.signing_secret()
    if not secret:
        raise HTTPException(503, "Set [api_auth] jwt_secret: without a secret no session can be kept.")
    return hmac.new(secret.encode(), f"airflow-oauth-provider: {purpose}".encode(), hashlib.sha256).digest()


def _fernet(purpose: str) -> Fernet:
    return Fernet(base64.urlsafe_b64encode(_key(purpose)))
