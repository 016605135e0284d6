"""The proof of possession (RFC 9449) on requests to an API: a new one whenever the request leaves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import requests
from requests.structures import CaseInsensitiveDict

from airflow_oauth_provider.oauth2 import dpop


class DpopHeaders(CaseInsensitiveDict[str]):
    """Header fields among which the proof is made anew each time it is read.

    A proof is good for one request (section 7.3), and whoever sends reads the fields: ``requests``, its transport
    adapter when it repeats a request by itself, and ``aiohttp``. So none of them can send a proof twice, and each
    proof has the newest nonce.

    :param fields: the other fields.
    :param prove: returns a new proof.
    """

    def __init__(self, fields: Mapping[str, str], prove: Callable[[], str]) -> None:
        super().__init__({name: fields[name] for name in fields if not _is_proof(name)})
        self._prove = prove
        self[dpop.HEADER] = ""

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in {known.lower() for known in self}

    def __getitem__(self, name: str) -> str:
        value = super().__getitem__(name)
        return self._prove() if _is_proof(name) else value

    def copy(self) -> CaseInsensitiveDict[str]:
        """Return fields that make proofs for the same request, or none where the proof was taken off."""
        return DpopHeaders(self, self._prove) if dpop.HEADER in self else CaseInsensitiveDict(self)


def put(request: Any, prover: dpop.Prover, token: str) -> None:
    """Have ``request`` (anything with ``method``, ``url`` and ``headers``) carry a proof for ``token``."""
    prove = partial(prover.proof, str(request.method), str(request.url), token)
    request.headers = DpopHeaders(request.headers, prove)


def take_off(request: Any) -> None:
    """Take the proof off ``request``."""
    if dpop.HEADER in request.headers:
        del request.headers[dpop.HEADER]


def wants_another(prover: dpop.Prover, response: requests.Response) -> bool:
    """Take the nonce out of an answer, and tell whether the API wants the request again with that in its proof.

    Only answers to requests that carried a proof count (RFC 9449 sections 8.2 and 9).
    """
    request = response.request
    if dpop.HEADER not in request.headers:
        return False
    taken = prover.take_nonce(str(request.url), response.headers, api=True)
    return taken and dpop.asks_for_nonce(response.status_code, response.headers.get("WWW-Authenticate"))


def _is_proof(name: str) -> bool:
    return name.lower() == dpop.HEADER.lower()
