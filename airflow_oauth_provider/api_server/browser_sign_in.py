"""A person signs in from the page: the authorization-code grant by way of the API server, or the device grant.

Nothing is kept in the server's memory. What belongs to a sign-in (state, PKCE verifier, person, connection) travels in
a sealed cookie. A row of the audit log, which all workers see, makes sure that an answer is used once only.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import asdict, dataclass, replace
from typing import Any

from fastapi import Request

from airflow_oauth_provider.api_server import session
from airflow_oauth_provider.api_server.actions import audit
from airflow_oauth_provider.compat import api_server
from airflow_oauth_provider.connection import sign_in
from airflow_oauth_provider.oauth2 import authorization_code, device, errors
from airflow_oauth_provider.oauth2.token_response import TokenResponse

#: Seconds that a person has between the page and the answer.
LIFETIME = 900
CODE, DEVICE = "authorization code", "device code"
CODE_COOKIE, DEVICE_COOKIE = "oauth2_sign_in", "oauth2_device"
#: The row of the audit log that an answer leaves, so that no second one counts.
_ANSWERED = "oauth2_sign_in_answered"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a sign-in: where the tokens are, and which scopes were granted, or asked for and not granted."""

    store: str
    granted: tuple[str, ...]
    missing: tuple[str, ...]


def redirect_uri(request: Request) -> str:
    """Return where the authorization server sends the browser back to; a person registers it there."""
    base = api_server.base_url() or str(request.base_url).rstrip("/").removesuffix(api_server.PAGES_PREFIX)
    return f"{base}{api_server.PAGES_PREFIX}/callback"


def begin(request: Request, conn_id: str, user: Any) -> tuple[str, str]:
    """Begin a sign-in by authorization code (RFC 6749 section 4.1) with PKCE (RFC 7636).

    :return: the address to send the browser to, and what :data:`CODE_COOKIE` has to hold meanwhile.
    """
    prepared = sign_in.prepare(conn_id)
    pending = sign_in.begin(prepared, redirect_uri(request))
    members = {**asdict(pending), "conn_id": conn_id, "user": user.get_name(), "session": session.session_id(request)}
    del members["url"]
    return pending.url, session.seal(CODE, members)


def read_pending(request: Request, user: Any) -> tuple[str, authorization_code.Pending]:
    """Return the connection and the sign-in that the browser comes back from; an error where it is another's."""
    members = session.unseal(CODE, request.cookies.get(CODE_COOKIE), LIFETIME)
    me = (user.get_name(), session.session_id(request))
    if members is None or (members["user"], members["session"]) != me:
        raise authorization_code.NotOurs(
            f"No sign-in of yours waits for this answer: it took longer than {LIFETIME // 60} minutes, or was begun in "
            "another browser or by another user. Begin again."
        )
    names = ("redirect_uri", "state", "verifier", "issuer", "issuer_required")
    return members["conn_id"], authorization_code.Pending(url="", **{name: members[name] for name in names})


def finish(request: Request, conn_id: str, pending: authorization_code.Pending, user: Any) -> Outcome:
    """Take the answer of the authorization server, redeem the code, and keep the tokens in the connection's store."""
    code = authorization_code.accept(pending, str(request.url.query))
    _use_once(pending.state, conn_id, user)
    prepared = sign_in.prepare(conn_id)
    answer, sent_at = sign_in.redeem(prepared.configuration, pending, code)
    return _keep(prepared, answer, sent_at, user)


def _use_once(state: str, conn_id: str, user: Any) -> None:
    """Refuse the second of two requests with the same answer, at whichever worker they arrive.

    A code that is sent twice may end the grant (RFC 6749 section 4.1.2). Both write a row and then look for another
    one, so at most one of two simultaneous requests wins.
    """
    members = {"connection_id": conn_id, "state": hashlib.sha256(state.encode()).hexdigest()}
    row = api_server.write_audit_log(_ANSWERED, user.get_name(), **members)
    if row is None or api_server.is_in_audit_log(_ANSWERED, row, 2 * LIFETIME, **members):
        raise authorization_code.NotOurs("This answer has been used already. Begin again if the grant is not fresh.")


def _keep(prepared: sign_in.Preparation, answer: TokenResponse, sent_at: float, user: Any) -> Outcome:
    conn_id, name = prepared.configuration.conn_id, user.get_name()
    record, store = audit("oauth2_sign_in", conn_id, user, lambda: sign_in.keep(prepared, answer, sent_at, actor=name))
    return Outcome(store, *sign_in.compare_scopes(prepared.configuration, record))


# ----------------------------------------------------------------------------------------------- device grant


def begin_device(conn_id: str, user: Any) -> tuple[device.DeviceAuthorization, str]:
    """Begin a sign-in on another device (RFC 8628).

    :return: what to show, and what :data:`DEVICE_COOKIE` has to hold meanwhile.
    """
    authorization = sign_in.begin_device(sign_in.prepare(conn_id))
    lifetime = min(authorization.expires_in, device.MAX_WAIT)
    authorization = replace(authorization, expires_in=lifetime)
    members = {**asdict(authorization), "conn_id": conn_id, "user": user.get_name(), "until": time.time() + lifetime}
    return authorization, session.seal(DEVICE, members)


def poll_device(request: Request, conn_id: str, interval: float, user: Any) -> Outcome | float:
    """Ask once whether the person has signed in (RFC 8628 section 3.4).

    :param interval: seconds since the last poll.
    :return: what came of it, or the seconds until the next poll.
    """
    members = session.unseal(DEVICE, request.cookies.get(DEVICE_COOKIE), int(device.MAX_WAIT))
    if members is None or (members["conn_id"], members["user"]) != (conn_id, user.get_name()):
        raise authorization_code.NotOurs("No sign-in of yours waits on another device. Begin again.")
    if time.time() > members["until"]:
        raise errors.ErrorResponse("Nobody signed in before the code ran out. Begin again", code="expired_token")
    prepared = sign_in.prepare(conn_id)
    sent_at = time.time()
    answer = device.poll(prepared.configuration.client, members["device_code"], max(interval, members["interval"]))
    return answer if isinstance(answer, float) else _keep(prepared, answer, sent_at, user)
