"""The session that stays authorized, on the real ``requests`` with a network of its own."""

from __future__ import annotations

import io

import pytest
import requests
from hypothesis import example, given
from hypothesis import strategies as st
from requests.adapters import BaseAdapter

from airflow_oauth_provider.auth import OAuth2Auth
from airflow_oauth_provider.connection.address import origin_of
from airflow_oauth_provider.connection.dialect import BearerUsage
from airflow_oauth_provider.exceptions import ForeignOrigin, UnrewindableBody
from airflow_oauth_provider.http.session import OAuth2Session

API = "https://api.example.com"
OTHER = "https://other.example.net"


class Tokens:
    """Stands for the manager: a new token for each one rejected."""

    prover = None

    def __init__(self):
        self.generation = 1
        self.rejections = []

    def access_token(self, *, min_ttl=0.0, rejected=None):
        if rejected is not None:
            self.rejections.append(rejected)
            if rejected == f"t{self.generation}":
                self.generation += 1
        return f"t{self.generation}"


class Network(BaseAdapter):
    """Answers requests by a function, and notes them."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer
        self.requests = []
        self.options = []

    def send(self, request, **options):
        body = request.body
        if hasattr(body, "read"):
            body = body.read()
        elif body is not None and not isinstance(body, bytes | str):
            body = b"".join(body)
        self.requests.append((request.method, request.url, request.headers.get("Authorization"), body))
        self.options.append(options)
        status, headers = self.answer(request)
        response = requests.Response()
        response.status_code = status
        response.headers.update(headers)
        response.raw = io.BytesIO(b"body")
        response.url = request.url
        response.request = request
        response.connection = self
        return response

    def close(self):
        pass


def make(answer, *, allowed=(API,), refresh_when="expired", usage=None):
    network, tokens = Network(answer), Tokens()
    session = OAuth2Session(timeout=12.0)
    session.mount("https://", network)
    session.mount("http://", network)
    session.auth = OAuth2Auth(tokens, "xero", [origin_of(url) for url in allowed], refresh_when, usage)
    return session, network, tokens


def accepts(*good):
    return lambda request: (200 if request.headers.get("Authorization") in {f"Bearer {t}" for t in good} else 401, {})


def test_each_request_carries_the_token():
    session, network, _ = make(accepts("t1"))
    assert session.get(f"{API}/a").status_code == 200
    assert session.post(f"{API}/b", data="x").status_code == 200
    assert [request[2] for request in network.requests] == ["Bearer t1", "Bearer t1"]


def test_a_401_is_answered_by_one_refresh_and_one_replay():
    session, network, tokens = make(accepts("t2"))
    response = session.post(f"{API}/a", data=b"payload")
    assert response.status_code == 200
    assert [old.status_code for old in response.history] == [401]
    assert network.requests == [
        ("POST", f"{API}/a", "Bearer t1", b"payload"),
        ("POST", f"{API}/a", "Bearer t2", b"payload"),
    ]
    assert tokens.rejections == ["t1"]


def test_a_second_401_is_the_answer_and_later_requests_do_not_refresh_for_it():
    session, network, tokens = make(accepts())
    assert session.get(f"{API}/a").status_code == 401
    assert session.get(f"{API}/a").status_code == 401
    assert tokens.rejections == ["t1"]
    assert len(network.requests) == 3


def test_a_403_is_no_matter_of_freshness():
    session, network, tokens = make(lambda _: (403, {"WWW-Authenticate": 'Bearer error="insufficient_scope"'}))
    assert session.get(f"{API}/a").status_code == 403
    assert tokens.rejections == []
    assert len(network.requests) == 1


def test_never_means_never():
    session, _, tokens = make(accepts("t2"), refresh_when="never")
    assert session.get(f"{API}/a").status_code == 401
    assert tokens.rejections == []


def test_a_file_is_rewound_for_the_replay():
    session, network, _ = make(accepts("t2"))
    file = io.BytesIO(b"header|payload")
    file.seek(7)
    assert session.post(f"{API}/a", data=file).status_code == 200
    assert [request[3] for request in network.requests] == [b"payload", b"payload"]


def test_a_spent_stream_is_an_error_that_says_so():
    session, _, tokens = make(accepts("t2"))
    with pytest.raises(UnrewindableBody, match=r"'xero'.*stream"):
        session.post(f"{API}/a", data=(part for part in (b"a", b"b")))
    assert tokens.rejections == ["t1"], "the token is fresh for the next attempt"


@pytest.mark.parametrize(
    "url",
    [
        f"{OTHER}/a",
        "http://api.example.com/a",
        "https://api.example.com:8443/a",
        "https://api.example.com.evil.example/a",
        "https://api.example.com@evil.example/a",
        "https://sub.api.example.com/a",
    ],
)
def test_the_token_leaves_for_no_other_origin(url):
    session, network, _ = make(accepts("t1"))
    with pytest.raises(ForeignOrigin, match="allowed_hosts"):
        session.get(url)
    assert network.requests == []


@pytest.mark.parametrize("url", ["https://API.example.com/a", "https://api.example.com:443/a"])
def test_the_same_origin_in_other_words_is_the_same(url):
    session, *_ = make(accepts("t1"))
    assert session.get(url).status_code == 200


def test_a_listed_host_may_have_it():
    session, *_ = make(accepts("t1"), allowed=(API, OTHER))
    assert session.get(f"{OTHER}/a").status_code == 200


def redirecting(target, good="t1"):
    def answer(request):
        if request.url == f"{API}/a":
            return 302, {"Location": target}
        return accepts(good)(request)

    return answer


def test_a_redirect_elsewhere_goes_without_the_token_and_without_a_refresh():
    session, network, tokens = make(redirecting(f"{OTHER}/b"))
    assert session.get(f"{API}/a").status_code == 401
    assert [request[2] for request in network.requests] == ["Bearer t1", None]
    assert tokens.rejections == []


@pytest.mark.parametrize(("target", "allowed"), [(f"{API}/b", (API,)), (f"{OTHER}/b", (API, OTHER))])
def test_a_redirect_to_an_allowed_origin_keeps_the_token(target, allowed):
    session, network, _ = make(redirecting(target), allowed=allowed)
    assert session.get(f"{API}/a").status_code == 200
    assert [request[2] for request in network.requests] == ["Bearer t1", "Bearer t1"]


def test_a_redirect_elsewhere_goes_without_the_connections_own_headers():
    sent = []

    def answer(request):
        sent.append((request.headers.get("Ocp-Apim-Subscription-Key"), request.headers.get("Accept-Language")))
        return redirecting(f"{OTHER}/b")(request)

    session, *_ = make(answer)
    session.headers.update({"Ocp-Apim-Subscription-Key": "hidden", "Accept-Language": "en"})
    session.auth.private_headers = frozenset({"ocp-apim-subscription-key"})
    session.get(f"{API}/a")
    session.auth.allow(OTHER)
    session.get(f"{API}/a")
    assert sent == [("hidden", "en"), (None, "en"), ("hidden", "en"), ("hidden", "en")]


def in_query(good, *, target=None):
    def answer(request):
        if target is not None and request.path_url.startswith("/a"):
            return 302, {"Location": target}
        return (200 if request.url.endswith(f"key={good}") else 401), {}

    return make(answer, usage=BearerUsage(in_query="key"))


def test_a_token_in_the_query_is_in_no_url_that_an_answer_shows():
    session, network, tokens = in_query("t2")
    response = session.get(f"{API}/b?page=1")
    assert (response.status_code, tokens.rejections) == (200, ["t1"])
    assert [request[1] for request in network.requests] == [f"{API}/b?page=1&key=t1", f"{API}/b?page=1&key=t2"]
    assert [answer.url for answer in (*response.history, response)] == [f"{API}/b?page=1"] * 2
    assert response.request.url == f"{API}/b?page=1&key=t2", "what was sent"
    assert session.get(response.url).status_code == 200, "the next page goes by what this one shows"


def test_a_token_in_the_query_is_in_no_error_of_requests():
    session, *_ = in_query("nothing")
    with pytest.raises(requests.HTTPError) as caught:
        session.get(f"{API}/b").raise_for_status()
    assert "key=" not in str(caught.value)
    session, network, _ = in_query("t1")
    reason = f"Max retries exceeded with url: {API}/b?key=t1"
    network.send = lambda request, **_: (_ for _ in ()).throw(requests.ConnectionError(reason, request=request))
    with pytest.raises(requests.ConnectionError, match=r"'xero': GET https://api\.example\.com/b got no") as lost:
        session.get(f"{API}/b")
    assert lost.value.__suppress_context__
    assert lost.value.request.url == f"{API}/b"


def test_a_token_in_the_query_follows_redirects_that_are_allowed():
    session, network, _ = in_query("t1", target="/b")
    response = session.get(f"{API}/a")
    assert [request[1] for request in network.requests] == [f"{API}/a?key=t1", f"{API}/b?key=t1"]
    assert [answer.url for answer in (*response.history, response)] == [f"{API}/a", f"{API}/b"]


def test_a_401_behind_a_redirect_is_refreshed_too():
    session, _, tokens = make(redirecting(f"{API}/b", good="t2"))
    assert session.get(f"{API}/a").status_code == 200
    assert tokens.rejections == ["t1"]


def test_every_request_has_a_timeout():
    session, network, _ = make(accepts("t1"))
    session.get(f"{API}/a")
    session.get(f"{API}/a", timeout=3)
    assert [options["timeout"] for options in network.options] == [12.0, 3]


def test_the_environment_does_not_override_what_the_connection_says_of_tls(monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/environment.pem")
    session, network, _ = make(accepts("t1"))
    for verify in ("/own.pem", False):
        session.verify = verify
        session.get(f"{API}/a")
    assert [options["verify"] for options in network.options] == ["/own.pem", False]


def test_a_netrc_does_not_replace_the_token(monkeypatch, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine api.example.com login me password hidden")
    monkeypatch.setenv("NETRC", str(netrc))
    session, *_ = make(accepts("t1"))
    assert session.get(f"{API}/a").status_code == 200


# -- prepared as requests prepares -----------------------------------------------------------------------------------

_NAMES = st.sampled_from(["Accept", "accept", "X-Tenant", "User-Agent"])
_PARAMETERS = st.dictionaries(
    st.one_of(st.text(max_size=4), st.integers(), st.binary(max_size=3)),
    st.one_of(
        *(st.text(max_size=6), st.integers(), st.booleans(), st.none(), st.floats(), st.binary(max_size=4)),
        st.lists(st.text(max_size=3), max_size=3),
    ),
    max_size=4,
)


@given(
    st.one_of(_PARAMETERS, st.text(max_size=8), st.lists(st.tuples(st.text(max_size=3), st.text(max_size=3)))),
    _PARAMETERS,
    st.dictionaries(_NAMES, st.sampled_from(["a", "b", None])),
    st.dictionaries(_NAMES, st.sampled_from(["c", "d", None])),
)
@example({"n": 1, "q": "a b+c&é/"}, {}, {}, {})
@example({"n": True, "l": ["x", "y"], "gone": None}, {}, {}, {})
@example({"n": 1}, {"key": "of the session"}, {}, {"Accept": None})
def test_a_request_is_prepared_as_requests_prepares_it(parameters, of_session, headers, defaults):
    prepared = []
    for session in (requests.Session(), OAuth2Session(timeout=1.0)):
        session.auth = lambda request: request
        session.headers["Accept-Encoding"] = "gzip, deflate"
        session.headers.update(defaults)
        session.params = of_session
        request = requests.Request("GET", f"{API}/a?b=c", headers=headers, params=parameters)
        made = session.prepare_request(request)
        prepared.append((made.method, made.url, list(made.headers.items()), made.body))
        assert (request.params, request.headers) == (parameters, headers)
    assert prepared[0] == prepared[1]
