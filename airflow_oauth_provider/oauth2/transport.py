"""One HTTP exchange with an authorization server, and whether it may have happened when it failed."""

from __future__ import annotations

import logging
import ssl
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import quote, urlencode, urlsplit

import requests
import urllib3.exceptions
from requests import exceptions

from airflow_oauth_provider.oauth2 import deadline, errors
from airflow_oauth_provider.oauth2.client import Transport, is_secure
from airflow_oauth_provider.oauth2.redaction import show_url

#: The largest response that is read, in bytes; no specification sets a bound, and no vendor comes near.
MAX_RESPONSE_BYTES = 1024 * 1024

_CODINGS = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": -zlib.MAX_WBITS}
_MAX_CODINGS = 2

_current = threading.local()


class _QuietWhereUrlsAreSecret(logging.Filter):
    """urllib3 writes the URL of each request to its debug log, and some servers take credentials in nothing else."""

    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002 - the signature of logging
        return not getattr(_current, "url_is_secret", False)


logging.getLogger("urllib3.connectionpool").addFilter(_QuietWhereUrlsAreSecret())


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An HTTP response of an authorization server, read to its end.

    :param endpoint: the URL asked, fit to be shown.
    :param status: HTTP status.
    :param headers: header fields by lower-case name.
    :param body: the decoded body.
    """

    endpoint: str
    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


def encode_form(fields: Sequence[tuple[str, str]]) -> str:
    """Return ``fields`` as a form (RFC 6749 appendix B); only letters, digits and ``_.-~`` stand unescaped."""
    return urlencode(fields, quote_via=quote)


def add_query(url: str, fields: Sequence[tuple[str, str]]) -> str:
    """Return ``url`` with ``fields`` in its query, after those that it has (RFC 6749 section 3.1)."""
    return f"{url}{'&' if urlsplit(url).query else '?'}{encode_form(fields)}"


def exchange(
    transport: Transport, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None
) -> HttpResponse:
    """Send one request, without following redirects, and read the response to its end.

    :param transport: timeout, TLS and proxies.
    :param method: HTTP method.
    :param url: an endpoint of the authorization server; https, or http on loopback.
    :param headers: header fields.
    :param body: the body, encoded.
    :raises NotConnected: the server has seen nothing of the request.
    :raises LostResponse: it may have.

    All of it, from looking up the name to the last byte of the response, ends within ``transport.timeout``. Nothing is
    sent after that.
    """
    endpoint = show_url(url)
    if not is_secure(url):
        raise errors.NotConnected(f"{endpoint} is not https, so no credentials are sent to it", lasting=True)
    # A session of its own: a kept-alive connection that died meanwhile would make every failure ambiguous.
    with (
        deadline.exchange(transport.timeout) as bound,
        _Session() as session,
        _classify_errors(endpoint, transport.timeout, bound),
    ):
        session.trust_env = transport.trust_env
        for scheme in ("https://", "http://"):
            session.mount(scheme, deadline.Adapter())
        sent = {"Accept-Encoding": "gzip, deflate", **headers}
        request = requests.Request(method, url, data=body, headers=sent, auth=_keep_headers)
        prepared = session.prepare_request(request)
        # Passed for each request, since REQUESTS_CA_BUNDLE would override the session's own setting.
        settings = session.merge_environment_settings(
            prepared.url, dict(transport.proxies), True, transport.verify, transport.cert
        )
        if urlsplit(url).scheme != "https":
            settings["proxies"] = {}  # it goes to this machine: a proxy, also one of the environment, would read it
        _current.url_is_secret = "?" in url
        try:
            response = session.send(prepared, timeout=transport.timeout, allow_redirects=False, **settings)
        finally:
            _current.url_is_secret = False
        with response:
            content = _read(response, endpoint)
            if bound.is_over:
                raise errors.LostResponse(f"{endpoint} did not finish its response within {transport.timeout:g} s")
            fields = {name.lower(): value for name, value in response.headers.items()}
            content = decode_content(content, fields.get("content-encoding", ""), endpoint, response.status_code)
            return HttpResponse(endpoint, response.status_code, fields, content)


def _keep_headers(request: requests.PreparedRequest) -> requests.PreparedRequest:
    # Given as auth so that requests does not look into .netrc, which would add a second client authentication.
    return request


class _Session(requests.Session):
    """A session that leaves a redirect where it is.

    ``requests`` reads the whole body of a redirect, of any size, even where it does not follow.
    """

    def get_redirect_target(self, resp: requests.Response) -> None:
        """See ``requests.Session``."""


def _read(response: requests.Response, endpoint: str) -> bytes:
    """Return the body as it was sent; that of a redirect says nothing, and is not read."""
    content = bytearray()
    if 300 <= response.status_code < 400:
        return b""
    # Not by urllib3's way to read chunks: that knows no bound for the line before a chunk.
    while piece := response.raw.read(16384, decode_content=False):
        content += piece
        if len(content) > MAX_RESPONSE_BYTES:
            raise _too_long(endpoint, response.status_code)
    return bytes(content)


def decode_content(content: bytes, codings: str, endpoint: str, status: int) -> bytes:
    """Return a body without its content codings (RFC 9110 section 8.4.1), which may make a thousand bytes of one.

    :param content: the body as it was sent.
    :param codings: the header field ``Content-Encoding``.
    :param endpoint: who sent it, for the text of the error.
    :param status: HTTP status, for the same.
    :raises UnexpectedResponse: for a coding that was not asked for, and for a body that becomes too long.
    """
    names = [name.strip().lower() for name in codings.split(",") if name.strip().lower() not in ("", "identity")]
    if len(names) > _MAX_CODINGS or any(name not in _CODINGS for name in names):
        what = f"{endpoint} answered {status}: the body has a coding that was not asked for"
        raise errors.UnexpectedResponse(what, status=status)
    for name in reversed(names):
        content = _inflate(content, _CODINGS[name])
        if len(content) > MAX_RESPONSE_BYTES:
            raise _too_long(endpoint, status)
    return content


def _inflate(content: bytes, window_bits: int) -> bytes:
    """Return decompressed data, one byte more than the bound at most; where it is broken, as much as can be had."""
    if window_bits < 0 and content[:1] and content[0] & 0x0F == zlib.DEFLATED:
        window_bits = zlib.MAX_WBITS  # as RFC 9110 has it; servers also send it without the frame of zlib
    inflated = bytearray()
    machine = zlib.decompressobj(window_bits)
    for start in range(0, len(content), 1024):
        try:
            inflated += machine.decompress(content[start : start + 1024], MAX_RESPONSE_BYTES + 1 - len(inflated))
        except zlib.error:
            break
        if machine.eof or len(inflated) > MAX_RESPONSE_BYTES:
            break
    return bytes(inflated)


def _too_long(endpoint: str, status: int) -> errors.UnexpectedResponse:
    what = f"{endpoint} answered {status}: the body is longer than {MAX_RESPONSE_BYTES} bytes"
    return errors.UnexpectedResponse(what, status=status)


@contextmanager
def _classify_errors(endpoint: str, timeout: float, bound: deadline.Bound) -> Iterator[None]:
    """Turn what ``requests`` raises into a response to the question that counts: may the server have seen it.

    The messages are made here: those of ``requests`` quote the URL, and chained causes would show it, too.
    """
    try:
        yield
    except exceptions.ConnectTimeout:
        raise errors.NotConnected(f"{endpoint}: no connection within {timeout:g} s") from None
    except exceptions.ReadTimeout:
        raise errors.LostResponse(f"{endpoint} did not answer within {timeout:g} s") from None
    except exceptions.SSLError as error:
        raise _tls_failure(endpoint, error, bound) from None
    except exceptions.ProxyError:
        raise errors.NotConnected(f"{endpoint}: the proxy made no connection") from None
    except exceptions.ConnectionError as error:
        if _never_connected(error):
            raise errors.NotConnected(f"{endpoint}: no connection ({_reason(error)})") from None
        raise _broken(endpoint, timeout, bound) from None
    except (exceptions.InvalidURL, exceptions.MissingSchema, exceptions.InvalidSchema):
        raise errors.NotConnected(f"{endpoint} is no valid URL", lasting=True) from None
    except (exceptions.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
        # A ValueError comes of a redirect whose address is not UTF-8; requests reads it though it does not follow.
        reason = f"the response could not be read ({type(error).__name__})"
        raise _broken(endpoint, timeout, bound, reason) from None
    except OSError as error:
        # requests checks the paths of CA bundle and client certificate before it connects.
        raise errors.NotConnected(
            f"{endpoint}: {error.strerror or 'a certificate file cannot be read'}", lasting=True
        ) from None


def _causes(error: BaseException) -> Iterator[BaseException]:
    pending: list[object] = [error]
    seen: set[int] = set()
    while pending:
        cause = pending.pop()
        if isinstance(cause, BaseException) and id(cause) not in seen:
            seen.add(id(cause))
            yield cause
            pending += [*cause.args, cause.__cause__, cause.__context__, getattr(cause, "reason", None)]


def _never_connected(error: exceptions.ConnectionError) -> bool:
    unsent = urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError
    return any(isinstance(cause, unsent) for cause in _causes(error))


def _reason(error: exceptions.ConnectionError) -> str:
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror.lower()
    return "the name or address does not answer"


def _broken(
    endpoint: str,
    timeout: float,
    bound: deadline.Bound,
    reason: str = "the connection broke before the response was complete",
) -> errors.LostResponse:
    if bound.is_over:
        return errors.LostResponse(f"{endpoint} did not finish its response within {timeout:g} s")
    return errors.LostResponse(f"{endpoint}: {reason}")


#: What OpenSSL says of a certificate out of its time: not yet valid, and expired (``verify(1)``). Both pass.
_OUT_OF_TIME = (9, 10)


def _tls_failure(endpoint: str, error: exceptions.SSLError, bound: deadline.Bound) -> errors.OAuth2ProtocolError:
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            passes = cause.verify_code in _OUT_OF_TIME
            hint = (
                "a matter for whoever runs that server, unless the clock of this machine is wrong"
                if passes
                else "if the CA is your own, name its bundle in the connection's extra 'verify'"
            )
            text = f"{endpoint}: its certificate does not verify ({cause.verify_message}); {hint}"
            return errors.NotConnected(text, lasting=not passes)
    if bound.is_connected:
        return errors.LostResponse(f"{endpoint}: the TLS connection broke before the response was complete")
    return errors.NotConnected(f"{endpoint}: the TLS handshake failed")
