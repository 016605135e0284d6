"""The body of an API's response, decoded within bounds: what comes from outside must not fill memory or disk.

The decoding is done here and not by ``urllib3`` or ``aiohttp``, so that worker and triggerer have the same bounds
with every version of them: a kilobyte of gzip can hold a megabyte, and gzip within gzip a gigabyte.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Generator, Iterable, Iterator
from functools import lru_cache
from typing import Any

import requests
from requests.adapters import BaseAdapter
from requests.exceptions import ChunkedEncodingError, ContentDecodingError

from airflow_oauth_provider.exceptions import ApiError, name_connection
from airflow_oauth_provider.http.errors import show_target

#: Bytes of a decoded body that is kept in memory.
MAX_IN_MEMORY = 256 << 20
#: Bytes of the body of a redirect, which nobody asked for.
MAX_OF_REDIRECT = 1 << 20
#: Bytes of a decoded body that goes to a file.
MAX_ON_DISK = 64 << 30
#: From so many decoded bytes on, a body may be at most so many times as long as what came over the wire. Real JSON of
#: many equal records shrinks to a fiftieth.
RATIO_COUNTS_FROM, MAX_RATIO = 8 << 20, 200

_PIECE = 64 << 10
_CODINGS = {"gzip", "x-gzip", "deflate"}
#: What servers name as a coding although it changes nothing of the body: charsets, the framing of uploads to S3.
_NO_CODINGS = {"", "identity", "none", "utf-8", "utf8", "binary", "7bit", "8bit", "aws-chunked"}
#: How often a body may be coded; each coding multiplies what a few bytes can become.
_MAX_CODINGS = 2


class BodyReader:
    """Decodes a body piece by piece, and ends it with an error where it is more than may be.

    :param response: the response, without its body: status, headers, request.
    :param limit: decoded bytes.
    :raises ApiError: when it is coded in a way that was not asked for.
    """

    def __init__(self, response: requests.Response, conn_id: str, limit: int = MAX_IN_MEMORY) -> None:
        self._response = response
        self._conn_id = conn_id
        self._limit = min(limit, MAX_OF_REDIRECT) if response.is_redirect else limit
        self._received = self._decoded = 0
        codings = [name.strip().lower() for name in response.headers.get("Content-Encoding", "").split(",")]
        codings = [name for name in codings if name not in _NO_CODINGS]
        if len(codings) > _MAX_CODINGS or not _CODINGS.issuperset(codings):
            raise self._error("with a body in a coding that was not asked for (Content-Encoding)")
        self._decoders = [_Inflater(name) for name in reversed(codings)]

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what the next bytes of the body decode to.

        :raises ApiError: when the body is longer than it may be.
        :raises ContentDecodingError: when the bytes are not in the coding that the headers name.
        """
        self._received += len(data)
        pieces: Iterable[bytes] = (data,)
        for decoder in self._decoders:
            pieces = decoder.feed(pieces)
        for piece in pieces:
            self._decoded += len(piece)
            if self._decoded > self._limit:
                size = self._limit >> 20
                raise self._error(f"with a body of more than {size} MB: ask for less at once, or use 'output'")
            if self._decoded > RATIO_COUNTS_FROM and self._decoded > MAX_RATIO * self._received:
                raise self._error(
                    f"with a body that its compression makes more than {MAX_RATIO} times as long, which is no answer "
                    "but an attempt to fill memory"
                )
            yield piece

    def finish(self) -> None:
        """Raise ChunkedEncodingError where the body ends in the middle of its coding."""
        if self._received and not all(decoder.is_complete for decoder in self._decoders):
            raise ChunkedEncodingError("the body ends before its compressed data does", request=self._response.request)

    def _error(self, what: str) -> ApiError:
        response = self._response
        method = response.request.method if response.request is not None else ""
        text = f"{method} {show_target(response.url or '')} answered {response.status_code} {what}"
        return ApiError(name_connection(self._conn_id, text), status_code=response.status_code)


class _Inflater:
    """Decodes gzip (of several members, too) and deflate.

    Some servers send deflate without the header that RFC 9110 section 8.4.1.2 asks for: the first two bytes tell.
    """

    def __init__(self, coding: str) -> None:
        self._is_deflate = coding == "deflate"
        self._decoder: Any = None
        self._head = b""
        self._members = 0

    @property
    def is_complete(self) -> bool:
        return self._decoder is None and (not self._head or self._members > 0)

    def feed(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            rest = self._head + piece
            self._head = b""
            while rest:
                if self._decoder is None:
                    if len(rest) < 2:
                        self._head = rest
                        break
                    self._decoder = zlib.decompressobj(self._window(rest))
                rest = yield from self._decode(rest)

    def _window(self, data: bytes) -> int:
        if not self._is_deflate:
            return 16 + zlib.MAX_WBITS
        has_header = data[0] & 0x0F == 8 and int.from_bytes(data[:2], "big") % 31 == 0
        return zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS

    def _decode(self, data: bytes) -> Generator[bytes, None, bytes]:
        """Yield what ``data`` decodes to, up to the end of a member; return what is behind it."""
        while True:
            try:
                out = self._decoder.decompress(data, _PIECE)
            except zlib.error:
                if not self._members:
                    raise ContentDecodingError("the body is not in the coding that Content-Encoding names") from None
                self._decoder = None  # padding behind the last member
                return b""
            if out:
                yield out
            if self._decoder.eof:
                rest: bytes = self._decoder.unused_data
                self._decoder, self._members = None, self._members + 1
                return rest
            data = self._decoder.unconsumed_tail
            if not data and len(out) < _PIECE:
                return b""


def is_loaded(response: requests.Response) -> bool:
    """Tell whether the body has been read, into memory; else it is left to the caller to read."""
    return getattr(response, "_content", False) is not False


def skip_body(response: requests.Response) -> None:
    """Read the body of a response that does not count, and give its connection back; a long one is closed instead."""
    if not is_loaded(response):
        kept = bytearray()
        try:
            for piece in response.iter_content(_PIECE):
                kept += piece
                if len(kept) > _PIECE:
                    break
        except (requests.RequestException, RuntimeError):  # broken off, or read by somebody else already
            kept.clear()
        response._content = bytes(kept)
    response.close()


class BoundedAdapter(BaseAdapter):
    """Sends by another transport adapter, and gives the responses bodies within bounds."""

    def __init__(self, inner: BaseAdapter, conn_id: str) -> None:
        super().__init__()
        self._inner = inner
        self._conn_id = conn_id

    def send(self, request: requests.PreparedRequest, stream: bool = False, **options: Any) -> requests.Response:  # type: ignore[override]
        """See ``requests.adapters.HTTPAdapter.send``."""
        response = self._inner.send(request, stream=stream, **options)
        response.connection = self  # type: ignore[assignment]
        if hasattr(response.raw, "stream"):
            to_disk = stream and response.status_code < 300
            reader = BodyReader(response, self._conn_id, MAX_ON_DISK if to_disk else MAX_IN_MEMORY)
            response.raw = _BoundedRaw(response.raw, reader, is_read_at_once=not stream)
        return response

    def close(self) -> None:
        """Close what sends."""
        self._inner.close()


class _BoundedRaw:
    """The raw body of ``urllib3``, read by a :class:`BodyReader` where ``requests`` reads it decoded."""

    def __init__(self, raw: Any, reader: BodyReader, *, is_read_at_once: bool) -> None:
        self._raw = raw
        self._reader = reader
        # Where requests itself reads it to its end, the small pieces that it asks for only cost time.
        self._piece = _PIECE if is_read_at_once else 0

    def stream(self, amt: int = _PIECE, decode_content: bool | None = None) -> Iterator[bytes]:
        amt = max(amt, self._piece)
        if not decode_content:
            yield from self._raw.stream(amt, decode_content=False)
            return
        for data in self._raw.stream(amt, decode_content=False):
            yield from self._reader.feed(data)
        self._reader.finish()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)


def settle_charset(response: requests.Response) -> None:
    """Read a text that states no charset as UTF-8, if it is that; forget a charset that decodes nothing.

    ``requests`` takes ISO-8859-1 for it, as RFC 2616 had it; RFC 7231 appendix B took that back.
    """
    if not _is_charset(response.encoding):
        response.encoding = None
    if response.encoding != "ISO-8859-1" or not is_loaded(response):
        return
    if "charset" in response.headers.get("Content-Type", "").lower():
        return
    with contextlib.suppress(UnicodeDecodeError):
        response.content.decode("utf-8")
        response.encoding = "utf-8"


@lru_cache(maxsize=64)
def _is_charset(name: str | None) -> bool:
    """Tell whether ``requests`` can decode by ``name``: it catches the error of a name that is none, and no other."""
    try:
        str(b"a", name or "utf-8", errors="replace")
    except LookupError:
        return True
    except ValueError:  # such as "idna" and "undefined", which refuse to replace what they do not know
        return False
    return True
