"""Authorization of ``requests`` by an access token that is kept fresh (RFC 6750 section 2.1, RFC 9449 section 7)."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import requests
from requests.auth import AuthBase
from requests.cookies import RequestsCookieJar
from requests.exceptions import UnrewindableBodyError
from requests.structures import CaseInsensitiveDict
from requests.utils import rewind_body

from airflow_oauth_provider.connection.address import Origin, normalize_url, origin_of, show_origin, upgrade_origin
from airflow_oauth_provider.connection.dialect import BearerUsage
from airflow_oauth_provider.exceptions import ConfigurationError, ForeignOrigin, UnrewindableBody
from airflow_oauth_provider.http.body import skip_body
from airflow_oauth_provider.http.flow import Flow, RefreshToken, Send, Step, drive
from airflow_oauth_provider.oauth2 import dpop
from airflow_oauth_provider.oauth2.redaction import show_url
from airflow_oauth_provider.tokens.manager import TokenManager

log = logging.getLogger(__name__)

_HEADER_SAFE = re.compile(r"[\x21-\x7e]+").fullmatch


class DpopHeaders(CaseInsensitiveDict[str]):
    """Header fields among which the proof is made anew each time it is read.

    A proof is good for one request (RFC 9449 section 7.3), and whoever sends reads the fields: ``requests``, its
    transport adapter when it repeats a request by itself, and ``aiohttp``. So none of them can send a proof twice, and
    each proof has the newest nonce.
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


class OAuth2Auth(AuthBase):
    """Puts a fresh token on each request; after a 401 refreshes once and sends the request again, once.

    A token that is bound to a key goes along with a proof of that key, made anew for each sending; an API that wants
    its nonce in the proof is sent the request again, once, without a refresh.

    :param manager: hands out the token.
    :param conn_id: the connection's name, for messages.
    :param origins: where the token may be sent; an empty collection allows none.
    :param refresh_when: the connection's ``refresh_when``; ``never`` leaves a 401 as it is.
    :param usage: how the API takes the token, and says that it has expired; None: as RFC 6750 has it.

    One instance may serve many threads and sessions.
    """

    def __init__(
        self,
        manager: TokenManager,
        conn_id: str,
        origins: Collection[Origin],
        refresh_when: str = "expired",
        usage: BearerUsage | None = None,
    ) -> None:
        self._manager = manager
        #: The connection's name.
        self.conn_id = conn_id
        self._origins = {*origins, *map(upgrade_origin, origins)}
        self._replays = refresh_when != "never"
        self._bearer = usage or BearerUsage()
        self._bound = replace(self._bearer, header_name="Authorization", header_prefix=dpop.TOKEN_TYPE, in_query="")
        #: Names of header fields that stay behind with the token when a redirect leads elsewhere.
        self.private_headers: frozenset[str] = frozenset()
        # The token that the API turned down although it was brand-new: refreshing again would not help.
        self._turned_down_fresh: str | None = None

    def allow(self, url: str) -> None:
        """Allow the origin of ``url`` as well."""
        origin = origin_of(url)
        if origin is not None:
            self._origins |= {origin, upgrade_origin(origin)}

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Authorize ``request``.

        :raises ForeignOrigin: when it would leave for an origin that the connection does not list.
        :raises OAuth2Error: when there is no token.
        """
        self.check_origin(request.url or "")
        self._put(request, self._manager.access_token())
        request.register_hook("response", self._after_answer)  # type: ignore[no-untyped-call]
        return request

    def follow_redirect(self, request: requests.PreparedRequest, came_from: str) -> None:
        """Make a request that ``came_from`` redirects fit for where it goes, with the token only where that may go."""
        self.prepare_redirect(request, came_from)
        if self.allows(request.url or ""):
            self._put(request, self._manager.access_token())
        else:
            log.info("Connection %r: following a redirect without the token", self.conn_id)

    def prepare_redirect(self, request: requests.PreparedRequest, came_from: str) -> None:
        """Take the token off a redirected request, and what is for the old origin only: ``Authorization``, cookies."""
        if not is_rewindable(request):  # requests would send what is left of the stream: nothing
            rewind(request, self.conn_id, f"{show_url(came_from)} redirects")
        self._take_off(request)
        url = request.url = normalize_url(request.url or "")
        old, new = origin_of(came_from), origin_of(url)
        goes_along = self.allows(url)
        if not goes_along:
            self._leave_behind(request)
        if not goes_along or old is None or new not in (old, upgrade_origin(old)):
            request.headers.pop("Authorization", None)
            _drop_cookies_of_no_host(request)

    def allows(self, url: str) -> bool:
        """Tell whether the token may go to the origin of ``url``: a listed one, or the same one over TLS."""
        return origin_of(url) in self._origins

    def check_origin(self, url: str) -> None:
        """Raise ForeignOrigin unless the token may go to the origin of ``url``."""
        if not self.allows(url):
            origin = origin_of(url)
            where = show_origin(origin) if origin else show_url(url)
            raise ForeignOrigin(
                f"it does not allow its token to be sent to {where}. If that host may have it, add it to "
                "'allowed_hosts' in the connection's extra; else use a session of your own.",
                conn_id=self.conn_id,
            )

    def authorize(self, request: requests.PreparedRequest, token: str | None) -> None:
        """Put ``token`` on ``request`` where it may go, in place of an earlier one; for clients other than a session.

        :param token: as the manager gave it; None takes off what is there.
        """
        self._take_off(request)
        if not self.allows(request.url or ""):
            self._leave_behind(request)
        elif token is not None:
            self._put(request, token)

    def hide_token(self, response: requests.Response) -> None:
        """Take the token out of the URLs that ``response`` shows, where it is the query that carries it.

        Those URLs get into XCom and into the text of ``raise_for_status()``. The request that was sent keeps its own.
        """
        if not self._usage.in_query:
            return
        for answer in (response, *response.history):
            shown = SimpleNamespace(url=answer.url, headers={})
            self._usage.take_off(shown)
            answer.url = str(shown.url)

    def bare(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Return a copy of ``request`` without token and private headers, fit to go along with an error."""
        copy = request.copy()
        self._take_off(copy)
        self._leave_behind(copy)
        return copy

    def answer_flow(self, response: requests.Response) -> Flow[requests.Response]:
        """Return the response that counts: ``response``, or what comes of its request with a nonce or a new token.

        One refresh and one request more, at the most; before each of them one more for a nonce. It is to be run for
        each response that arrives, redirects too: before them the token may be turned down as well.
        """
        response = yield from self._with_nonce(response)
        rejected = self._expired_token(response)
        if rejected is None:
            return response
        log.info("Connection %r: the API answered %d; refreshing the access token", self.conn_id, response.status_code)
        fresh: str = yield RefreshToken(rejected)
        again = yield from self._with_nonce((yield from self._replay(response, fresh)))
        self._note_replay(again, fresh)
        return again

    def _with_nonce(self, response: requests.Response) -> Flow[requests.Response]:
        """Return ``response``, or where that only asks for a nonce what comes of the request with it."""
        token = self._usage.token_of(response.request) if self._wants_nonce(response) else None
        if token is None:
            return response
        again = yield from self._replay(response, token)
        self._wants_nonce(again)  # its answer may bring the next one
        return again

    def _replay(self, response: requests.Response, token: str) -> Flow[requests.Response]:
        request = response.request.copy()
        rewind(request, self.conn_id, "the API answered 401")
        self._put(request, token)
        again: requests.Response = yield Send(request, instead_of=response)
        again.history = [*again.history, *response.history, response]
        again.request = request
        return again

    def _expired_token(self, response: requests.Response) -> str | None:
        """Return the token that ``response`` turns down, if a new one may help; else None."""
        if not self._replays or not self._usage.means_expired(response):
            return None
        token = self._usage.token_of(response.request)
        # None: the request went out without our token. The other: a fresh one has been refused before.
        return None if token == self._turned_down_fresh else token

    def _note_replay(self, response: requests.Response, fresh: str) -> None:
        """Take note of the answer to a replay: where even ``fresh`` was turned down, further ones would not help."""
        if not self._usage.means_expired(response):
            return
        self._turned_down_fresh = fresh
        is_bound = self._manager.prover is not None
        log.warning(
            "Connection %r: %s answers %d to a brand-new token as well: the token lacks a permission, or the API "
            "wants another one%s",
            self.conn_id,
            show_url(response.url),
            response.status_code,
            ", or does not like the proof (a clock is wrong, or an address)" if is_bound else "",
        )

    def _wants_nonce(self, response: requests.Response) -> bool:
        """Take the nonce out of ``response``, and tell whether the API wants the request again with it in the proof.

        Only answers to requests that carried a proof count (RFC 9449 sections 8.2 and 9).
        """
        prover, request = self._manager.prover, response.request
        if prover is None or dpop.HEADER not in request.headers:
            return False
        taken = prover.take_nonce(str(request.url), response.headers, api=True)
        return taken and dpop.asks_for_nonce(response.status_code, response.headers.get("WWW-Authenticate"))

    @property
    def _usage(self) -> BearerUsage:
        return self._bearer if self._manager.prover is None else self._bound

    def _put(self, request: Any, token: str) -> None:
        if not _HEADER_SAFE(token):
            raise ConfigurationError(
                "its access token has a line break or another character that cannot "
                "stand in a header (RFC 6750 section 2.1): enter it anew, without what is around it.",
                conn_id=self.conn_id,
            )
        prover = self._manager.prover
        if prover is None:
            self._bearer.put(request, token)
        else:
            self._bound.put(request, token)
            prove = partial(prover.proof, str(request.method), str(request.url), token)
            request.headers = DpopHeaders(request.headers, prove)

    def _take_off(self, request: Any) -> None:
        self._usage.take_off(request)
        if dpop.HEADER in request.headers:  # pop() would read it, and so make a proof
            del request.headers[dpop.HEADER]

    def _leave_behind(self, request: requests.PreparedRequest) -> None:
        for name in self.private_headers:
            request.headers.pop(name, None)

    def _after_answer(self, response: requests.Response, **send_options: Any) -> requests.Response:
        def perform(step: Step) -> Any:
            match step:
                case RefreshToken(rejected):
                    return self._manager.access_token(rejected=rejected)
                case Send(request, instead_of) if instead_of is not None:
                    skip_body(instead_of)
                    return instead_of.connection.send(request, **send_options)
            raise AssertionError(step)

        answer = drive(self.answer_flow(response), perform)
        self.hide_token(answer)
        return answer


def _is_proof(name: str) -> bool:
    return name.lower() == dpop.HEADER.lower()


def _drop_cookies_of_no_host(request: requests.PreparedRequest) -> None:
    """Leave behind the cookies that the call itself has given: they name no host, and would go to any."""
    jar = RequestsCookieJar()
    for cookie in getattr(request, "_cookies", None) or ():
        if cookie.domain:
            jar.set_cookie(cookie)
    request.headers.pop("Cookie", None)
    request.prepare_cookies(jar)


def is_rewindable(request: requests.PreparedRequest) -> bool:
    """Tell whether ``request`` can be sent again: its body is none, bytes, or a stream that can go back."""
    body: object = request.body
    position = getattr(request, "_body_position", None)
    return body is None or isinstance(body, bytes | str) or (hasattr(body, "seek") and isinstance(position, int))


def rewind(request: requests.PreparedRequest, conn_id: str, why: str) -> None:
    """Make ``request`` fit to be sent again, or raise UnrewindableBody: ``why`` it has to be is for the message."""
    body: object = request.body
    if body is None or isinstance(body, bytes | str):
        return
    try:
        rewind_body(request)
    except UnrewindableBodyError:
        raise UnrewindableBody(
            f"{why}, and the request cannot be sent again, since its body is a stream that was "
            "read already. Run it again with a new stream, or give the body as bytes or as a file.",
            conn_id=conn_id,
        ) from None
