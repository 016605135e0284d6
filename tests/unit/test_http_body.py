"""Bodies within bounds: what a few bytes from outside can become."""

from __future__ import annotations

import gzip
import io
import zlib

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from requests.exceptions import ChunkedEncodingError, ContentDecodingError
from urllib3 import HTTPResponse

from airflow_oauth_provider.exceptions import ApiError
from airflow_oauth_provider.http import body
from airflow_oauth_provider.http.body import MAX_OF_REDIRECT, MAX_RATIO, RATIO_COUNTS_FROM, BodyReader
from airflow_oauth_provider.http.session import OAuth2Session
from tests.unit.test_auth import API, OTHER, Network, make


def response_of(status=200, **headers):
    response = requests.Response()
    response.status_code, response.url = status, f"{API}/x?access_token=hidden"
    response.request = requests.Request("GET", response.url).prepare()
    response.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
    return response


def read(data, coding="", *, chunk=1000, status=200, limit=body.MAX_IN_MEMORY):
    reader = BodyReader(response_of(status, Content_Encoding=coding, Location="/b"), "api", limit)
    pieces = [piece for n in range(0, len(data), chunk) for piece in reader.feed(data[n : n + chunk])]
    reader.finish()
    return b"".join(pieces)


def raw_deflate(data):
    compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


CODINGS = {
    "": lambda data: data,
    "none": lambda data: data,
    "UTF-8": lambda data: data,
    "aws-chunked": lambda data: data,
    "identity, gzip": gzip.compress,
    "gzip, utf-8": gzip.compress,
    "identity": lambda data: data,
    "gzip": gzip.compress,
    "X-GZIP": gzip.compress,
    "deflate": zlib.compress,
    "gzip, gzip": lambda data: gzip.compress(gzip.compress(data)),
    "deflate, gzip": lambda data: gzip.compress(zlib.compress(data)),
}


@given(data=st.binary(max_size=2000), coding=st.sampled_from(sorted(CODINGS)), chunk=st.integers(1, 500))
def test_what_was_coded_is_decoded(data, coding, chunk):
    assert read(CODINGS[coding](data), coding, chunk=chunk) == data


@given(data=st.binary(min_size=1, max_size=2000), chunk=st.integers(1, 500))
def test_deflate_without_a_header_and_gzip_of_several_members(data, chunk):
    assert read(raw_deflate(data), "deflate", chunk=chunk) == data
    assert read(gzip.compress(data) + gzip.compress(b"more"), "gzip", chunk=chunk) == data + b"more"
    assert read(gzip.compress(data) + b"\0" * 7, "gzip", chunk=chunk) == data


@pytest.mark.parametrize("coding", ["gzip", "deflate", "gzip, gzip", "deflate, gzip"])
@pytest.mark.parametrize("chunk", [100, 1 << 20])
def test_a_bomb_ends_before_it_fills_memory(coding, chunk):
    # As long as 80 MB of zeros in each coding, the inner one too.
    bomb = CODINGS[coding](b"\0" * (10 * RATIO_COUNTS_FROM))
    seen = []
    reader = BodyReader(response_of(Content_Encoding=coding), "api")

    def read_all():
        for start in range(0, len(bomb), chunk):
            seen.extend(len(piece) for piece in reader.feed(bomb[start : start + chunk]))

    with pytest.raises(
        ApiError, match=r"'api': GET https://api\.example\.com/x\?access_token=\*\*\* .*memory"
    ) as error:
        read_all()
    assert error.value.http_status == 200
    assert sum(seen) <= max(RATIO_COUNTS_FROM, MAX_RATIO * len(bomb)) < 20 << 20


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, br", "gzip, gzip, gzip", "compress", "x"])
def test_a_coding_that_was_not_asked_for_is_an_error(coding):
    with pytest.raises(ApiError, match="coding"):
        read(b"x", coding)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "gzip, gzip"])
def test_a_body_that_breaks_off_in_its_coding_is_no_whole_one(coding):
    with pytest.raises(ChunkedEncodingError):
        read(CODINGS[coding](b"some text of records" * 50)[:-9], coding)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_what_is_not_in_its_coding_is_an_error(coding):
    with pytest.raises((ContentDecodingError, ChunkedEncodingError)):
        read(b"\xff\xff plain text", coding)


@pytest.mark.parametrize("coding", ["", "gzip", "deflate"])
def test_long_bodies_end(coding):
    text = bytes(range(256)) * 8192  # 2 MB, which gzip shrinks to little, but for its ratio
    with pytest.raises(ApiError, match="more than 1 MB"):
        read(CODINGS[coding](text), coding, limit=MAX_OF_REDIRECT)
    with pytest.raises(ApiError, match="302 with a body of more than 1 MB"):
        read(CODINGS[coding](text), coding, status=302)
    assert read(CODINGS[coding](text), coding) == text


# -- on the session ------------------------------------------------------------------------------------------------


class Compressed(Network):
    """Answers with bodies as urllib3 hands them over."""

    def send(self, request, **options):
        response = super().send(request, **options)
        headers, data = self.bodies(request)
        response.headers.update(headers)
        self.opened.append(io.BytesIO(data))
        response.raw = HTTPResponse(self.opened[-1], headers, status=response.status_code, preload_content=False)
        return response


def session_of(answer, bodies):
    session, _, tokens = make(answer, allowed=(API, OTHER))
    network = Compressed(answer)
    network.bodies, network.opened = bodies, []
    session.mount("https://", network)
    return session, network, tokens


BOMB = gzip.compress(b"\0" * (4 * RATIO_COUNTS_FROM))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [200, 404, 503])
def test_a_session_reads_no_bomb(stream, status):
    session, *_ = session_of(lambda _: (status, {}), lambda _: ({"Content-Encoding": "gzip"}, BOMB))
    with pytest.raises(ApiError, match="memory"):
        _ = session.get(f"{API}/a", stream=stream).content


def test_the_body_of_a_redirect_is_none_either():
    def answer(request):
        return (302, {"Location": "/b"}) if request.url.endswith("/a") else (200, {})

    session, network, _ = session_of(
        answer, lambda r: ({"Content-Encoding": "gzip"}, BOMB if r.url.endswith("/a") else gzip.compress(b"ok"))
    )
    with pytest.raises(ApiError, match="302 with a body"):
        session.get(f"{API}/a")
    assert len(network.requests) == 1


def test_the_body_of_a_401_is_left_where_it_is():
    def answer(request):
        return (200 if request.headers["Authorization"] == "Bearer t2" else 401), {}

    def bodies(request):
        refused = request.headers["Authorization"] == "Bearer t1"
        return {}, b"x" * (4 << 20) if refused else b"ok"

    session, _, tokens = session_of(answer, bodies)
    response = session.get(f"{API}/a", stream=True)
    assert (response.content, tokens.rejections) == (b"ok", ["t1"])
    assert len(response.history[0].content) < 256 << 10
    assert response.history[0].status_code == 401


def test_both_drivers_ask_for_what_they_can_bound():
    assert OAuth2Session(5).headers["Accept-Encoding"] == "gzip, deflate"
