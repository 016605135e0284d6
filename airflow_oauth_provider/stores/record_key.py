"""Sign and verify what a task and the API server say to each other about the record of one connection.

Both have the connection's record key: the server reads it in the row, the task in the connection that Airflow gives to
it. The key itself never travels. A signature is HMAC-SHA256 (RFC 2104) over everything that decides what is done:

* a request's: method, connection, time, a random text (``nonce``) and the hash of the body;
* an answer's: the signature of the request that it answers, its status and the hash of its body. So no answer can be
  made by who has not the key, nor be one to an earlier request.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

#: Where the plugin's application is mounted, and its two routes.
URL_PREFIX = "/oauth2-token-store"
RECORD_ROUTE = "/connections/{connection_id}/token-record"
KEY_ROUTE = "/connections/{connection_id}/record-key"

#: Seconds by which the clocks of a task and the server may differ.
TIME_WINDOW = 300
#: Header fields of a request; an answer has the last one.
TIME_FIELD, NONCE_FIELD, SIGNATURE_FIELD = "oauth2-record-time", "oauth2-record-nonce", "oauth2-record-signature"
_REQUEST, _ANSWER = "airflow-oauth-provider request 1", "airflow-oauth-provider answer 1"


@dataclass(frozen=True, slots=True)
class Signature:
    """What the header fields of a request say.

    :param time: seconds since the epoch, by the sender's clock, as text.
    :param nonce: a text that the sender uses once.
    :param value: the signature, in hexadecimal digits.
    """

    time: str
    nonce: str
    value: str

    @classmethod
    def from_headers(cls, headers: Mapping[str, str]) -> Signature:
        """Read the header fields; what is missing is empty, and so never valid."""
        return cls(*(headers.get(name, "") for name in (TIME_FIELD, NONCE_FIELD, SIGNATURE_FIELD)))

    def headers(self) -> dict[str, str]:
        """Return the header fields."""
        return {TIME_FIELD: self.time, NONCE_FIELD: self.nonce, SIGNATURE_FIELD: self.value}


def sign_request(key: str, method: str, conn_id: str, body: bytes, *, now: float) -> Signature:
    """Return the signature of a request.

    :param key: the record key of the connection.
    :param body: as it is sent.
    :param now: seconds since the epoch.
    """
    time, nonce = str(int(now)), secrets.token_hex(16)
    return Signature(time, nonce, _mac(key, _REQUEST, method, conn_id, time, nonce, _hash(body)))


def is_valid(signature: Signature, key: str, method: str, conn_id: str, body: bytes, *, now: float) -> bool:
    """Tell whether a request was made by a holder of ``key``, and not longer ago than :data:`TIME_WINDOW`.

    Takes the same time for a wrong signature as for a wrong time.
    """
    expected = _mac(key, _REQUEST, method, conn_id, signature.time, signature.nonce, _hash(body))
    is_same = hmac.compare_digest(expected.encode(), signature.value.encode())
    return is_same and bool(signature.nonce) and _is_current(signature.time, now)


def sign_answer(key: str, request: Signature, status: int, body: bytes) -> str:
    """Return the signature of the answer to ``request``."""
    return _mac(key, _ANSWER, request.value, str(status), _hash(body))


def is_answer_valid(answer: str, key: str, request: Signature, status: int, body: bytes) -> bool:
    """Tell whether an answer with the signature ``answer`` was made by a holder of ``key``, for just this request."""
    return hmac.compare_digest(sign_answer(key, request, status, body).encode(), answer.encode())


def _is_current(time: str, now: float) -> bool:
    return time.isascii() and time.isdigit() and len(time) < 12 and abs(now - int(time)) <= TIME_WINDOW


def _hash(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _mac(key: str, *parts: str) -> str:
    # Each part with its length, so that no two lists of parts have the same text.
    text = "".join(f"{len(part.encode())}:{part}\n" for part in parts)
    return hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()
