"""DPoP (RFC 9449): proofs, the server's nonce, and what it means for tokens, API calls and the connection."""

from __future__ import annotations

import io
import json
import logging
from base64 import urlsafe_b64encode
from dataclasses import replace
from hashlib import sha256
from types import SimpleNamespace
from urllib.parse import parse_qsl, urlsplit

import jwt
import pytest
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519
from requests.adapters import BaseAdapter

from airflow_oauth_provider import exceptions
from airflow_oauth_provider.auth import OAuth2Auth
from airflow_oauth_provider.compat import deployment, masking
from airflow_oauth_provider.compat.connections import FoundConnection
from airflow_oauth_provider.connection import loader
from airflow_oauth_provider.connection.address import origin_of
from airflow_oauth_provider.connection.settings import read_settings
from airflow_oauth_provider.http.retry import RetryPolicy, Sender
from airflow_oauth_provider.http.session import OAuth2Session
from airflow_oauth_provider.oauth2 import authorization_code, client_auth, device, dpop, errors, grants, token_endpoint
from airflow_oauth_provider.oauth2.assertions import BadKeyError, SigningKey
from airflow_oauth_provider.oauth2.client import Client, Dialect
from airflow_oauth_provider.oauth2.grants import GrantInputs, GrantOptions
from airflow_oauth_provider.oauth2.transport import HttpResponse
from airflow_oauth_provider.stores.json_document import JsonDocument, Layout
from airflow_oauth_provider.tokens import messages
from airflow_oauth_provider.tokens.decision import TokenRequirements
from airflow_oauth_provider.tokens.record import StoredRecord
from tests.unit.fakes import Faults, World

URL = "https://login.example.com/token"
API = "https://api.example.com"
OTHER = "https://other.example.net"


def pem(key):
    encryption = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption).decode()


EC_KEY = ec.generate_private_key(ec.SECP256R1())
KEY = SigningKey(pem(EC_KEY))
RSA_PEM = pem(rsa.generate_private_key(public_exponent=65537, key_size=2048))


@pytest.fixture(autouse=True)
def no_nonce_is_known():
    dpop.get_prover.cache_clear()


def read(proof):
    """Return header and claims, the signature checked by the key that the proof itself names."""
    header = jwt.get_unverified_header(proof)
    claims = jwt.decode(proof, jwt.PyJWK(header["jwk"], algorithm=header["alg"]).key, algorithms=[header["alg"]])
    return header, claims


# -- proofs --------------------------------------------------------------------------------------------------------


def test_a_proof_for_a_token_request():
    header, claims = read(dpop.get_prover(KEY).proof("POST", URL))
    assert header["typ"] == "dpop+jwt"
    assert header["alg"] == "ES256"
    assert set(header["jwk"]) == {"kty", "crv", "x", "y"}
    assert set(claims) == {"jti", "htm", "htu", "iat"}
    assert (claims["htm"], claims["htu"]) == ("POST", URL)


def test_no_two_proofs_are_alike():
    prover = dpop.get_prover(KEY)
    assert len({read(prover.proof("GET", API, "t"))[1]["jti"] for _ in range(50)}) == 50


def test_the_hash_of_the_token_as_in_the_rfc():
    """RFC 9449 section 7.1 has this token and this hash."""
    token = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU"
    assert (
        read(dpop.get_prover(KEY).proof("GET", API, token))[1]["ath"] == "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo"
    )


def test_the_thumbprint_as_in_the_rfc():
    """RFC 8037 appendix A.3 has this key and its thumbprint by RFC 7638."""
    members = {
        "kty": "OKP",
        "crv": "Ed25519",
        "d": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
        "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
        "kid": "some-name",
    }
    prover = dpop.get_prover(SigningKey(json.dumps(members)))
    assert prover.thumbprint == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    assert set(read(prover.proof("GET", API, "t"))[0]["jwk"]) == {"kty", "crv", "x"}


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("https://api.example.com/a?b=c#d", "https://api.example.com/a"),
        ("https://api.example.com/a#d?b", "https://api.example.com/a"),
        ("HTTPS://API.Example.COM:443/A", "https://api.example.com/A"),
        ("http://api.example.com:80", "http://api.example.com/"),
        ("https://api.example.com:8443/", "https://api.example.com:8443/"),
        ("https://api.example.com?x", "https://api.example.com/"),
        ("https://me:secret@api.example.com/a", "https://api.example.com/a"),
        ("https://api.example.com/a%2fb/./c/../d", "https://api.example.com/a%2Fb/d"),
        ("https://api.example.com/a//b/", "https://api.example.com/a//b/"),
        ("http://[::1]:8080/x", "http://[::1]:8080/x"),
    ],
)
def test_the_address_in_a_proof(url, normal):
    assert dpop.normalize_url(url) == normal


@pytest.mark.parametrize("url", ["https://api.example.com/ü b?q", "HTTPS://API.example.com:443/%7euser?q#f"])
def test_the_address_in_a_proof_is_the_one_that_is_sent(url):
    sent = requests.Request("GET", url).prepare()
    assert dpop.normalize_url(sent.url).endswith(urlsplit(sent.path_url).path)


@pytest.mark.parametrize(
    ("key", "algorithm", "kind"),
    [
        (EC_KEY, "ES256", "EC"),
        (ec.generate_private_key(ec.SECP384R1()), "ES384", "EC"),
        (ed25519.Ed25519PrivateKey.generate(), "EdDSA", "OKP"),
        (serialization.load_pem_private_key(RSA_PEM.encode(), None), "RS256", "RSA"),
    ],
)
def test_kinds_of_keys(key, algorithm, kind):
    header, _ = read(dpop.get_prover(SigningKey(pem(key))).proof("GET", API, "t"))
    assert (header["alg"], header["jwk"]["kty"]) == (algorithm, kind)
    assert not set(header["jwk"]) & {"d", "p", "q", "dp", "dq", "qi"}


def test_a_jwk_may_name_another_algorithm():
    members = {**jwt.algorithms.RSAAlgorithm.to_jwk(rsa_key(), as_dict=True), "alg": "PS256"}
    assert read(dpop.get_prover(SigningKey(json.dumps(members))).proof("GET", API))[0]["alg"] == "PS256"


def rsa_key():
    return serialization.load_pem_private_key(RSA_PEM.encode(), None)


BAD_KEYS = {
    "symmetric": '{"kty": "oct", "k": "aGlkZGVuLWhpZGRlbi1oaWRkZW4taGlkZGVuLWhpZGRlbg", "alg": "HS256", "d": "x"}',
    "public JWK": jwt.algorithms.ECAlgorithm.to_jwk(EC_KEY.public_key()),
    "public PEM": EC_KEY.public_key()
    .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    .decode(),
    "for key agreement": pem(x25519.X25519PrivateKey.generate()),
    "none": json.dumps({**jwt.algorithms.ECAlgorithm.to_jwk(EC_KEY, as_dict=True), "alg": "none"}),
    "of another algorithm": json.dumps({**jwt.algorithms.ECAlgorithm.to_jwk(EC_KEY, as_dict=True), "alg": "RS256"}),
    "by a secret": json.dumps({**jwt.algorithms.ECAlgorithm.to_jwk(EC_KEY, as_dict=True), "alg": "HS256"}),
    "no key": "hidden-hidden-hidden",
}


@pytest.mark.parametrize("material", BAD_KEYS.values(), ids=BAD_KEYS)
def test_keys_that_prove_nothing(material):
    with pytest.raises(BadKeyError) as caught:
        dpop.get_prover(SigningKey(material))
    assert "aGlk" not in str(caught.value)
    assert "hidden" not in str(caught.value)


# -- nonces --------------------------------------------------------------------------------------------------------


def nonce_in(prover, url, token=None):
    return read(prover.proof("POST", url, token))[1].get("nonce")


def test_the_newest_nonce_of_each_server_and_of_no_other():
    prover = dpop.get_prover(KEY)
    assert prover.take_nonce(f"{API}/a?b", {"DPoP-Nonce": "first"}, api=True)
    prover.take_nonce(f"{API}/b", {"dpop-nonce": "second"}, api=True)
    prover.take_nonce(f"{API}/token", {"DPoP-Nonce": "of-the-authorization-server"}, api=False)
    assert nonce_in(prover, f"{API}:443/c", "t") == "second"
    assert nonce_in(prover, f"{API}/token") == "of-the-authorization-server"
    assert nonce_in(prover, f"{OTHER}/c", "t") is None
    assert nonce_in(prover, f"{API}:8443/c", "t") is None


def test_an_answer_without_a_nonce_leaves_the_known_one():
    prover = dpop.get_prover(KEY)
    prover.take_nonce(API, {"DPoP-Nonce": "known"}, api=True)
    assert not prover.take_nonce(API, {}, api=True)
    assert nonce_in(prover, API, "t") == "known"


@pytest.mark.parametrize("nonce", ["", "two, at once", 'a"b', "a\\b", "ü", "x" * 5000, "a\x7f"])
def test_what_is_no_nonce_is_not_taken(nonce):
    """RFC 9449 section 8.1."""
    assert not dpop.get_prover(KEY).take_nonce(API, {"DPoP-Nonce": nonce}, api=True)


def test_nonces_serve_the_whole_process_and_keys_do_not_mix():
    dpop.get_prover(KEY).take_nonce(API, {"DPoP-Nonce": "known"}, api=True)
    assert nonce_in(dpop.get_prover(replace(KEY)), API, "t") == "known"
    assert nonce_in(dpop.get_prover(SigningKey(RSA_PEM)), API, "t") is None


@pytest.mark.parametrize(
    ("status", "challenge", "asks"),
    [
        (401, 'DPoP error="use_dpop_nonce", error_description="x"', True),
        (401, 'Bearer realm="a", DPoP algs="ES256", error=use_dpop_nonce', True),
        (401, 'dpop ERROR = "use_dpop_nonce"', True),
        (401, 'DPoP error="invalid_token"', False),
        (401, 'DPoP error_description="use_dpop_nonce"', False),
        (401, 'DPoP error="use_dpop_nonces"', False),
        (401, None, False),
        (403, 'DPoP error="use_dpop_nonce"', False),
    ],
)
def test_what_asks_for_a_nonce(status, challenge, asks):
    assert dpop.asks_for_nonce(status, challenge) is asks


# -- the token endpoint --------------------------------------------------------------------------------------------

GOOD = {"access_token": "abc", "token_type": "DPoP", "expires_in": 3600}
CLIENT = Client("id", URL, "s3cret-s3cret", dpop_key=KEY)


def answer(body, status=200, nonce=None):
    headers = {"content-type": "application/json"} | ({"dpop-nonce": nonce} if nonce else {})
    return HttpResponse(URL, status, headers, json.dumps(body).encode())


def wants(nonce, status=400):
    return answer({"error": "use_dpop_nonce", "error_description": "nonce please"}, status, nonce)


class Wire:
    """Stands for the network: what is sent is noted, ``answers`` come back in turn."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.sent = []
        self.timeouts = []

    def __call__(self, transport, method, url, headers, body=None):
        self.sent.append((url, dict(headers), dict(parse_qsl((body or b"").decode()))))
        self.timeouts.append(transport.timeout)
        step = self.answers.pop(0) if self.answers else answer(GOOD)
        if isinstance(step, Exception):
            raise step
        return step

    @property
    def proofs(self):
        return [read(headers["DPoP"])[1] for _, headers, _ in self.sent]


@pytest.fixture
def wire(monkeypatch):
    wire = Wire()
    for module in (client_auth, token_endpoint):
        monkeypatch.setattr(module, "exchange", wire)
    return wire


def refresh(client=CLIENT):
    return token_endpoint.request_token(
        client, grants.parameters("refresh_token", client, GrantOptions(), GrantInputs(), "rt")
    )


@pytest.mark.parametrize("grant", ["refresh_token", "client_credentials", "password", "token_exchange"])
def test_every_grant_sends_a_proof(wire, grant):
    parameters = grants.parameters(grant, CLIENT, GrantOptions(), GrantInputs(), "rt")
    assert token_endpoint.request_token(CLIENT, parameters).access_token == "abc"
    assert [(claims["htm"], claims["htu"]) for claims in wire.proofs] == [("POST", URL)]
    assert "ath" not in wire.proofs[0]


def test_without_a_key_there_is_no_proof(wire):
    wire.answers = [answer({**GOOD, "token_type": "Bearer"})]
    refresh(replace(CLIENT, dpop_key=None))
    assert "DPoP" not in wire.sent[0][1]


@pytest.mark.parametrize("status", [400, 401])
def test_the_nonce_is_answered_at_once_and_remembered(wire, status):
    wire.answers = [wants("one", status)]
    assert refresh().access_token == "abc"
    refresh()
    assert [claims.get("nonce") for claims in wire.proofs] == [None, "one", "one"]
    assert len({claims["jti"] for claims in wire.proofs}) == 3
    assert [form["refresh_token"] for _, _, form in wire.sent] == ["rt"] * 3


def test_a_nonce_comes_with_any_answer(wire):
    refusal = answer({"error": "invalid_scope"}, 400, "three")
    wire.answers = [answer(GOOD, nonce="one"), answer({"error": "x"}, 503, "two"), refusal]
    refresh()
    for kind in (errors.ServerFailure, errors.InvalidScopeResponse):
        with pytest.raises(kind):
            refresh()
    refresh()
    assert [claims.get("nonce") for claims in wire.proofs] == [None, "one", "two", "three"]


def test_a_server_that_never_has_enough_is_asked_twice_and_no_more(wire):
    wire.answers = [wants(f"n{number}") for number in range(10)]
    with pytest.raises(errors.NonceRequired, match="another nonce"):
        refresh()
    assert len(wire.sent) == 2
    with pytest.raises(errors.NonceRequired):
        refresh()
    assert [claims.get("nonce") for claims in wire.proofs] == [None, "n0", "n1", "n2"], "the newest, all the same"


def test_a_server_that_gives_no_nonce_is_not_asked_again(wire):
    wire.answers = [wants(None)]
    with pytest.raises(errors.ErrorResponse) as caught:
        refresh()
    assert (caught.value.code, len(wire.sent)) == ("use_dpop_nonce", 1)


def test_other_refusals_with_a_nonce_are_not_asked_again(wire):
    wire.answers = [answer({"error": "invalid_grant"}, 400, "one")]
    with pytest.raises(errors.InvalidGrantResponse):
        refresh()
    assert len(wire.sent) == 1


def test_a_lost_second_answer_is_a_lost_answer(wire):
    wire.answers = [wants("one"), errors.LostResponse("broken")]
    with pytest.raises(errors.LostResponse):
        refresh()


def test_the_second_request_has_the_time_that_is_left(wire, monkeypatch):
    times = iter([100.0, 100.0 + 20.0, 200.0, 200.0 + 1.0])
    monkeypatch.setattr(token_endpoint, "time", SimpleNamespace(monotonic=lambda: next(times)))
    wire.answers = [wants("one"), answer(GOOD), wants("two"), answer(GOOD)]
    refresh()
    refresh()
    assert wire.timeouts == [30.0, 15.0, 30.0, 29.0], "half of it at the least"


def test_a_client_assertion_is_made_anew_for_the_second_request(wire):
    """RFC 7523 section 3: a server may take a ``jti`` only once."""
    wire.answers = [wants("one")]
    refresh(replace(CLIENT, auth_method="private_key_jwt", signing_key=SigningKey(RSA_PEM)))
    assertions = [form["client_assertion"] for _, _, form in wire.sent]
    assert len({jwt.decode(text, options={"verify_signature": False})["jti"] for text in assertions}) == 2


def test_an_assertion_that_is_the_grant_is_left_to_the_caller_to_make_anew(wire):
    wire.answers = [wants("one")]
    parameters = [("grant_type", grants.JWT_BEARER), ("assertion", "a.b.c")]
    with pytest.raises(errors.NonceRequired):
        token_endpoint.request_token(CLIENT, parameters)
    assert token_endpoint.request_token(CLIENT, parameters).access_token == "abc"
    assert [claims.get("nonce") for claims in wire.proofs] == [None, "one"]


def test_parameters_in_the_query_do_not_get_into_the_proof(wire):
    refresh(replace(CLIENT, auth_method="client_secret_post", dialect=Dialect(request_format="query")))
    assert "refresh_token=rt" in wire.sent[0][0]
    assert wire.proofs[0]["htu"] == URL


@pytest.mark.parametrize("kind", ["DPoP", "dpop", "DPOP"])
def test_the_type_in_any_case(wire, kind):
    wire.answers = [answer({**GOOD, "token_type": kind})]
    assert refresh().token_type == kind


@pytest.mark.parametrize("kind", ["Bearer", "mac", None])
def test_a_token_that_is_not_bound_is_discarded_but_not_its_refresh_token(wire, kind):
    wire.answers = [answer({**GOOD, "token_type": kind, "refresh_token": "next"})]
    with pytest.raises(errors.WrongTokenType, match="dpop_private_key") as caught:
        refresh()
    assert caught.value.refresh_token == "next"
    assert "abc" not in str(caught.value)


@pytest.mark.parametrize("accepted", [(), ("bearer",), ("bearer", "DPoP")])
def test_a_bound_token_without_a_key_is_discarded_but_not_its_refresh_token(wire, accepted):
    wire.answers = [answer({**GOOD, "refresh_token": "next"})]
    with pytest.raises(errors.WrongTokenType, match="dpop_private_key") as caught:
        refresh(replace(CLIENT, dpop_key=None, dialect=Dialect(accepted_types=accepted)))
    assert caught.value.refresh_token == "next"


def test_the_sign_in_names_the_key():
    def query(client):
        parameters = {"dpop_jkt": "forged", "prompt": "login"}
        pending = authorization_code.begin(client, f"{API}/authorize", "http://127.0.0.1/", GrantOptions(), parameters)
        return parse_qsl(urlsplit(pending.url).query)

    given = query(CLIENT)
    assert [value for name, value in given if name == "dpop_jkt"] == [dpop.get_prover(KEY).thumbprint]
    assert ("prompt", "login") in given
    assert "dpop_jkt" not in dict(query(replace(CLIENT, dpop_key=None)))


def test_a_device_that_polls_takes_the_nonce_with_it(wire):
    pending = answer({"error": "authorization_pending"}, 400)
    wire.answers = [wants("one"), pending, wants("two"), wants("three"), pending]
    slept = []
    device.wait(CLIENT, device.DeviceAuthorization("code", interval=1.0), sleep=slept.append)
    assert [claims.get("nonce") for claims in wire.proofs] == [None, "one", "one", "two", "three", "three"]


# -- the refresh ---------------------------------------------------------------------------------------------------


def test_a_rotated_refresh_token_outlives_an_access_token_of_the_wrong_type():
    world = World()

    def bearer(call):
        spent = call()
        raise errors.WrongTokenType("not bound", status=200, refresh_token=spent.refresh_token)

    worker, _ = world.worker(Faults(token=[bearer]))
    with pytest.raises(exceptions.MalformedResponse):
        worker.obtain(TokenRequirements(force=True))
    assert world.record.refresh_token == world.server.grants[0].newest
    assert world.record.access_token is None
    assert world.record.lease is None
    assert worker.obtain(TokenRequirements(force=True)).rotated
    assert world.server.reuses == 0


def test_a_wrong_type_without_a_refresh_token_is_not_asked_for_again():
    world = World()
    wrong = errors.WrongTokenType("not bound", status=200, is_whole=True)
    worker, _ = world.worker(Faults(token=[wrong]))
    with pytest.raises(exceptions.MalformedResponse):
        worker.obtain(TokenRequirements(force=True))
    assert world.server.calls == []
    assert world.record.interrupted is None


def test_a_nonce_that_changes_all_the_time_spends_nothing_and_ends():
    world = World()
    worker, _ = world.worker(Faults(token=[errors.NonceRequired("n")] * 3))
    assert worker.obtain(TokenRequirements(force=True)).rotated
    assert world.record.interrupted is None

    world = World()
    worker, faults = world.worker(Faults(token=[errors.NonceRequired("n")] * 50))
    with pytest.raises(exceptions.TokenRequestError, match="refresh token is kept"):
        worker.obtain(TokenRequirements(force=True))
    assert faults.counts["token"] == 4
    assert world.record.refresh_token == world.server.grants[0].newest
    assert world.record.lease is None


@pytest.mark.parametrize(("method", "hinted"), [("none", True), ("client_secret_basic", False)])
def test_a_refused_refresh_token_of_a_public_client_may_want_another_key(method, hinted):
    world = World()
    world.connection.configuration = replace(
        world.connection.configuration,
        client=replace(world.connection.configuration.client, dpop_key=KEY, auth_method=method),
    )
    world.server.revoke()
    with pytest.raises(exceptions.ReauthorizationRequired) as caught:
        world.worker()[0].obtain(TokenRequirements(force=True))
    assert ("key under which it was issued" in str(caught.value)) is hinted


@pytest.mark.parametrize("code", ["use_dpop_nonce", "invalid_dpop_proof"])
@pytest.mark.parametrize(("key", "says"), [(None, "enter a private key under 'dpop_private_key'"), (KEY, "clock")])
def test_hints(code, key, says):
    world = World()
    account = replace(
        world.connection.configuration, client=replace(world.connection.configuration.client, dpop_key=key)
    )
    refusal = errors.ErrorResponse(f"answered 400: {code}", code=code)
    assert says in str(messages.configuration_error(account, refusal))


# -- API calls -----------------------------------------------------------------------------------------------------


class Tokens:
    """Stands for the manager: a new token for each one rejected."""

    def __init__(self, key=KEY):
        self.prover = dpop.get_prover(key) if key else None
        self.generation = 1
        self.rejections = []

    def access_token(self, *, min_ttl=0.0, rejected=None):
        if rejected is not None:
            self.rejections.append(rejected)
            self.generation += 1
        return f"t{self.generation}"


class Network(BaseAdapter):
    """Answers by a function of the request and its proof's claims, and notes what goes out."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer
        self.seen = []

    def send(self, request, **options):
        fields = dict(request.headers.items())
        claims = read(fields["DPoP"])[1] if "DPoP" in fields else None
        self.seen.append((request.url, fields.get("Authorization"), claims))
        if hasattr(request.body, "read"):
            request.body.read()
        status, headers = self.answer(request, claims)
        response = requests.Response()
        response.status_code = status
        response.headers.update(headers)
        response.raw = io.BytesIO(b"body")
        response.url, response.request, response.connection = request.url, request, self
        return response

    def close(self):
        pass

    @property
    def nonces(self):
        return [claims and claims.get("nonce") for _, _, claims in self.seen]


def make(answer, *, allowed=(API,), refresh_when="expired", key=KEY):
    network, tokens = Network(answer), Tokens(key)
    session = OAuth2Session(timeout=12.0)
    session.mount("https://", network)
    session.auth = OAuth2Auth(tokens, "xero", [origin_of(url) for url in allowed], refresh_when)
    return session, network, tokens


def ok(request, claims):
    return 200, {}


def ask_for(nonce):
    return 401, {"WWW-Authenticate": 'DPoP error="use_dpop_nonce"', "DPoP-Nonce": nonce}


def wants_nonce(nonce):
    return lambda request, claims: ask_for(nonce) if claims.get("nonce") != nonce else (200, {})


def ath(token):
    return urlsafe_b64encode(sha256(token.encode()).digest()).rstrip(b"=").decode()


def test_a_call_carries_token_and_proof():
    session, network, _ = make(ok)
    session.put(f"{API}/a", params={"b": "c"}, data="x")
    ((url, authorization, claims),) = network.seen
    assert (url, authorization) == (f"{API}/a?b=c", "DPoP t1")
    assert (claims["htm"], claims["htu"], claims["ath"]) == ("PUT", f"{API}/a", ath("t1"))


def test_a_bearer_token_is_sent_as_ever():
    session, network, _ = make(ok, key=None)
    response = session.get(f"{API}/a")
    assert network.seen[0][1:] == ("Bearer t1", None)
    assert type(response.request.headers) is requests.structures.CaseInsensitiveDict


def test_the_apis_nonce_costs_one_replay_and_no_refresh():
    session, network, tokens = make(wants_nonce("one"))
    response = session.post(f"{API}/a", data=io.BytesIO(b"payload"))
    assert response.status_code == 200
    assert [old.status_code for old in response.history] == [401]
    session.get(f"{API}/b")
    assert network.nonces == [None, "one", "one"]
    assert tokens.rejections == []


def test_even_where_nothing_is_refreshed():
    session, _, _ = make(wants_nonce("one"), refresh_when="never")
    assert session.get(f"{API}/a").status_code == 200


def test_a_nonce_comes_with_any_answer_of_the_api():
    answers = iter([(200, {"DPoP-Nonce": "one"}), (404, {"DPoP-Nonce": "two"}), ask_for("three"), *[(200, {})] * 2])
    session, network, _ = make(lambda *_: next(answers))
    for _ in range(4):
        session.get(f"{API}/a")
    assert network.nonces == [None, "one", "two", "three", "three"]


def test_the_answer_to_the_replay_brings_the_next_nonce():
    answers = iter([ask_for("one"), (200, {"DPoP-Nonce": "two"}), (200, {})])
    session, network, _ = make(lambda *_: next(answers))
    session.get(f"{API}/a")
    session.get(f"{API}/a")
    assert network.nonces == [None, "one", "two"]


def test_an_api_that_never_has_enough_is_not_asked_for_ever(caplog):
    numbers = iter(range(100))
    session, network, tokens = make(lambda *_: ask_for(f"n{next(numbers)}"))
    assert session.get(f"{API}/a").status_code == 401
    # With the nonce, with a new token, and with the nonce again.
    assert len(network.seen) == 4
    assert "or does not like the proof" in caplog.text
    assert tokens.rejections == ["t1"]
    assert session.get(f"{API}/a").status_code == 401
    assert len(network.seen) == 6
    assert tokens.rejections == ["t1"]


def test_an_api_that_gives_no_nonce_gets_a_new_token_as_after_any_401():
    session, network, tokens = make(
        lambda _, claims: (200, {}) if claims["ath"] == ath("t2") else (401, {"WWW-Authenticate": "DPoP"})
    )
    assert session.get(f"{API}/a").status_code == 200
    assert tokens.rejections == ["t1"]
    assert len({claims["jti"] for _, _, claims in network.seen}) == 2
    assert [authorization for _, authorization, _ in network.seen] == ["DPoP t1", "DPoP t2"]


def test_an_expired_token_and_then_the_nonce():
    def api(request, claims):
        if claims["ath"] != ath("t2"):
            return 401, {"WWW-Authenticate": 'DPoP error="invalid_token"'}
        return wants_nonce("one")(request, claims)

    session, network, tokens = make(api)
    response = session.get(f"{API}/a")
    assert response.status_code == 200
    assert network.nonces == [None, None, "one"]
    assert [old.status_code for old in response.history] == [401, 401]
    assert tokens.rejections == ["t1"]


def test_every_answer_that_does_not_count_is_read_so_that_its_connection_serves_again():
    answers = iter([ask_for("one"), (401, {"WWW-Authenticate": 'DPoP error="invalid_token"'}), (200, {})])
    session, _, tokens = make(lambda request, claims: next(answers))
    response = session.get(f"{API}/items")
    assert (response.status_code, tokens.rejections) == (200, ["t1"])
    assert [earlier._content for earlier in response.history] == [b"body", b"body"]


def test_a_stream_that_was_read_cannot_go_again_with_the_nonce():
    session, _, tokens = make(wants_nonce("one"))
    with pytest.raises(exceptions.UnrewindableBody, match="stream"):
        session.post(f"{API}/a", data=(part for part in (b"a", b"b")))
    assert session.post(f"{API}/a", data=(part for part in (b"a", b"b"))).status_code == 200, "the nonce is known now"
    assert tokens.rejections == []


def test_a_repeated_request_has_a_new_proof_and_the_newest_nonce():
    answers = iter([(503, {"DPoP-Nonce": "one"}), (429, {"DPoP-Nonce": "two"}), (200, {})])
    session, network, _ = make(lambda *_: next(answers))
    prepared = session.prepare_request(requests.Request("GET", f"{API}/a"))
    sending = Sender(RetryPolicy(attempts=3), sleep=lambda _: None)
    assert sending.send(session, prepared, {}, "xero").status_code == 200
    assert network.nonces == [None, "one", "two"]
    assert len({claims["jti"] for _, _, claims in network.seen}) == 3


def test_a_redirect_has_a_proof_for_where_it_leads():
    def api(request, claims):
        return (303, {"Location": f"{OTHER}/b?x=y"}) if "/a" in request.url else (200, {})

    session, network, _ = make(api, allowed=(API, OTHER))
    session.post(f"{API}/a", data="x")
    assert [(claims["htm"], claims["htu"]) for _, _, claims in network.seen] == [
        ("POST", f"{API}/a"),
        ("GET", f"{OTHER}/b"),
    ]


def test_a_redirect_elsewhere_has_neither_token_nor_proof_and_its_nonce_is_not_taken():
    def api(request, claims):
        return (302, {"Location": f"{OTHER}/b"}) if "/a" in request.url else (200, {"DPoP-Nonce": "foreign"})

    session, network, tokens = make(api)
    session.get(f"{API}/a")
    assert network.seen[1] == (f"{OTHER}/b", None, None)
    assert nonce_in(tokens.prover, OTHER, "t") is None


def test_a_copy_of_the_header_fields_makes_proofs_as_well():
    session, _, _ = make(ok)
    fields = session.prepare_request(requests.Request("GET", f"{API}/a")).headers
    copied = fields.copy()
    assert read(copied["dpop"])[1]["jti"] != read(copied["DPoP"])[1]["jti"]
    assert "dpop" in copied
    del copied["DPoP"]
    assert "DPoP" not in copied
    assert "DPoP" not in copied.copy()
    assert dict(fields.items()).keys() >= {"Authorization", "DPoP"}


def test_other_clients_get_a_token_with_its_proof():
    _, _, tokens = make(ok)
    auth = OAuth2Auth(tokens, "xero", [origin_of(API)])
    request = requests.Request("GET", f"{API}/a").prepare()
    auth.authorize(request, "t1")
    first = request.headers["DPoP"]
    auth.authorize(request, "t2")
    assert read(first)[1]["ath"] == ath("t1")
    assert read(request.headers["DPoP"])[1]["ath"] == ath("t2")
    request.url = f"{OTHER}/a"
    auth.authorize(request, "t2")
    assert "DPoP" not in request.headers
    assert "Authorization" not in request.headers


# -- the connection ------------------------------------------------------------------------------------------------


def settings(**extra):
    given = {"oauth_url": URL, "dpop_private_key": KEY.material, **extra}
    connection = SimpleNamespace(
        conn_type="oauth2",
        host=API,
        schema=None,
        port=None,
        login="id",
        password="hidden-secret",
        extra=json.dumps(given),
    )
    return read_settings("xero", connection)


JWK = jwt.algorithms.ECAlgorithm.to_jwk(EC_KEY, as_dict=True)


@pytest.mark.parametrize("key", [KEY.material, KEY.material.replace("\n", "\\n"), JWK, json.dumps(JWK)])
def test_the_key_as_people_enter_it(key):
    client = settings(dpop_private_key=key).grant_configuration().client
    assert dpop.get_prover(client.dpop_key).thumbprint == dpop.get_prover(KEY).thumbprint


@pytest.mark.parametrize("key", [KEY.material, JWK])
def test_the_key_may_stand_beside_the_tokens(key):
    kept = {"dpop_private_key": key}
    client = settings(dpop_private_key=None).grant_configuration(kept).client
    assert dpop.get_prover(client.dpop_key).thumbprint == dpop.get_prover(KEY).thumbprint
    other = settings(dpop_private_key=RSA_PEM).grant_configuration(kept).client
    assert other.dpop_key.material == RSA_PEM.strip(), "what the connection says comes first"
    document = JsonDocument(Layout.parse({"dpop_private_key": "$.app.key"}), "the file")
    assert document.to_fetched({"app": {"key": key}}).kept == kept


def test_without_a_key_tokens_are_bearer_tokens():
    assert settings(dpop_private_key=None).grant_configuration().client.dpop_key is None


@pytest.mark.parametrize("material", BAD_KEYS.values(), ids=BAD_KEYS)
def test_a_bad_key_is_an_error_that_shows_nothing_of_it(material):
    read_ = settings(dpop_private_key=material)
    with pytest.raises(exceptions.ConfigurationError, match=r"'xero'.*'dpop_private_key'.*private key") as caught:
        read_.grant_configuration()
    assert "aGlk" not in str(caught.value)
    assert "hidden" not in str(caught.value)


def test_a_symmetric_key_is_called_so():
    with pytest.raises(exceptions.ConfigurationError, match="this one is symmetric"):
        settings(dpop_private_key=BAD_KEYS["symmetric"]).grant_configuration()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("callback", "my_company.oauth:refresh"),
        ("in_query", "access_token"),
        ("header_name", "X-Api-Token"),
        ("header_prefix", "Bearer"),
        ("accepted_types", "DPoP, Bearer"),
    ],
)
def test_what_goes_against_the_key_is_named(monkeypatch, name, value):
    monkeypatch.setattr(deployment, "callback_prefixes", lambda: ["my_company"])
    with pytest.raises(exceptions.ConfigurationError, match=rf"'xero'.*'{name}'.*dpop_private_key"):
        settings(**{name: value}).grant_configuration()


def test_a_preset_goes_against_the_key_too():
    with pytest.raises(exceptions.ConfigurationError, match=r"'header_prefix'.*Zoho-oauthtoken.*dpop_private_key"):
        settings(
            provider="zoho", provider_params="accounts_host=https://accounts.zoho.eu, data_center=eu"
        ).grant_configuration()


@pytest.mark.parametrize(
    ("name", "value"), [("header_name", "authorization"), ("header_prefix", "DPoP"), ("accepted_types", "dpop")]
)
def test_what_says_the_same_is_no_mistake(name, value):
    assert settings(**{name: value}).grant_configuration().client.dpop_key is not None


def test_a_header_of_that_name_is_not_to_be_entered():
    with pytest.raises(exceptions.ConfigurationError, match="'extra_headers'"):
        settings(extra_headers="DPoP=x").grant_configuration()


def test_the_key_is_masked_wherever_it_stands(monkeypatch):
    assert {KEY.material.strip()} <= set(settings().secrets)
    assert JWK["d"] in settings(dpop_private_key=JWK).secrets

    masked = []
    monkeypatch.setattr(masking, "mask_secret", masked.append)
    kept = {"client_id": "id", "dpop_private_key": JWK, "private_key": KEY.material}
    store = SimpleNamespace(read=lambda: StoredRecord(None, None, kept, "the place"), name="x")
    monkeypatch.setattr(loader, "open_store", lambda *_, **__: store)
    first = SimpleNamespace(
        conn_type="oauth2",
        host=API,
        schema=None,
        port=None,
        login="id",
        password=None,
        extra=json.dumps({"oauth_url": URL, "auth_method": "none"}),
    )
    assert (
        loader.ConnectionLoader("xero", first=FoundConnection(first)).load().configuration.client.dpop_key is not None
    )
    assert {JWK["d"], KEY.material} <= set(masked)
    assert not {"id", JWK["x"], "EC", "P-256"} & set(masked)


def test_the_key_is_in_no_repr_and_no_log(caplog):
    caplog.set_level(logging.DEBUG)
    session, _, tokens = make(wants_nonce("one"))
    response = session.get(f"{API}/a")
    seen = caplog.text + repr(settings()) + repr(settings().grant_configuration()) + repr(tokens.prover) + repr(CLIENT)
    seen += repr(response.request.headers)
    for line in KEY.material.splitlines()[1:-1]:
        assert line not in seen
