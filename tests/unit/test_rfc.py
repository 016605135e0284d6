"""What the RFCs ask of a client, one test an item; docs/rfc.md lists them. Each name begins with RFC and section."""

from __future__ import annotations

import io
import json
import logging
import re
from dataclasses import replace
from urllib.parse import parse_qsl

import pytest
import requests

from airflow_oauth_provider.connection.dialect import BearerUsage
from airflow_oauth_provider.oauth2 import (
    assertions,
    authorization_code,
    client_auth,
    discovery,
    dpop,
    errors,
    grants,
    token_endpoint,
)
from airflow_oauth_provider.oauth2.client import Client, Dialect, Transport, is_secure
from airflow_oauth_provider.oauth2.grants import GrantInputs, GrantOptions
from airflow_oauth_provider.oauth2.times import parse_lifetime
from airflow_oauth_provider.oauth2.token_endpoint import introspect
from airflow_oauth_provider.oauth2.token_response import parse_token_response
from airflow_oauth_provider.oauth2.transport import HttpResponse
from airflow_oauth_provider.tokens import revocation
from tests.unit.test_dpop import ath, make, ok

URL = "https://login.example.com/token"
GOOD = {"access_token": "abc", "token_type": "Bearer", "expires_in": 3600}
CLIENT = Client("my id", URL, "s3c:ret+ü")
PLAIN = GrantOptions()


def answer(body, status=200, **headers):
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return HttpResponse(URL, status, {"content-type": "application/json", **headers}, text)


@pytest.fixture
def wire(monkeypatch):
    """Stand for the network: what is sent is noted, ``answers`` come back in turn."""

    class Wire:
        def __init__(self):
            self.answers = []
            self.sent = []

        def __call__(self, transport, method, url, headers, body=None):
            self.sent.append((method, url, dict(headers), body, transport))
            return self.answers.pop(0) if self.answers else answer(GOOD)

    wire = Wire()
    for module in (client_auth, token_endpoint, discovery):
        monkeypatch.setattr(module, "exchange", wire)
    discovery._known.clear()
    yield wire
    discovery._known.clear()


def refresh(client=CLIENT, options=PLAIN, token="rt"):
    return token_endpoint.request_token(
        client, grants.parameters("refresh_token", CLIENT, options, GrantInputs(), token)
    )


def form_of(sent):
    return parse_qsl(sent[3].decode("ascii"), keep_blank_values=True)


# RFC 6749


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post", "none", "client_secret_jwt"])
def test_rfc6749_2_3_one_client_authentication_a_request(wire, method):
    refresh(replace(CLIENT, auth_method=method))
    names = [name for name, _ in form_of(wire.sent[0])]
    ways = ["Authorization" in wire.sent[0][2], "client_secret" in names, "client_assertion" in names]
    assert sum(ways) == (0 if method == "none" else 1)


def test_rfc6749_2_3_1_id_and_secret_are_encoded_before_basic(wire):
    from base64 import b64decode

    refresh()
    pair = b64decode(wire.sent[0][2]["Authorization"].removeprefix("Basic ")).decode()
    assert pair == "my%20id:s3c%3Aret%2B%C3%BC"


@pytest.mark.parametrize(
    "method",
    [
        "client_secret_basic",
        "client_secret_jwt",
        "client_secret_post",
        "none",
        "self_signed_tls_client_auth",
        "tls_client_auth",
    ],
)
def test_rfc6749_2_3_1_no_credentials_in_the_uri(wire, method):
    refresh(replace(CLIENT, auth_method=method))
    assert wire.sent[0][1] == URL


def test_rfc6749_2_3_1_in_the_uri_only_as_an_explicit_option(wire):
    dialect = Dialect(request_format="query")
    refresh(replace(CLIENT, auth_method="client_secret_post", dialect=dialect))
    assert "client_secret=" in wire.sent[0][1]
    assert Dialect().request_format == "form"


def test_rfc6749_3_2_post_only_no_parameter_twice_nothing_empty(wire):
    refresh(options=GrantOptions(scope="", audience="a"))
    method, _, _, _, _ = wire.sent[0]
    names = [name for name, _ in form_of(wire.sent[0])]
    assert method == "POST"
    assert sorted(names) == sorted(set(names)) == ["audience", "grant_type", "refresh_token"]


def test_rfc6749_3_2_an_extra_parameter_does_not_stand_beside_the_grants_own(wire):
    refresh(replace(CLIENT, dialect=Dialect(parameters={"grant_type": "other"})))
    assert [value for name, value in form_of(wire.sent[0]) if name == "grant_type"] == ["other"]


def test_rfc6749_3_2_1_and_6_a_confidential_client_authenticates_on_refresh(wire):
    refresh()
    assert wire.sent[0][2]["Authorization"].startswith("Basic ")


def test_rfc6749_3_3_scope_is_sent_as_entered_case_and_order(wire):
    refresh(options=GrantOptions(scope="b A a"))
    assert dict(form_of(wire.sent[0]))["scope"] == "b A a"


def test_rfc6749_3_3_a_differing_scope_in_the_answer_counts():
    assert parse_token_response(answer({**GOOD, "scope": "read"})).scope == "read"


def test_rfc6749_5_1_missing_scope_means_the_requested_one():
    assert parse_token_response(answer(GOOD)).scope is None  # refresh.py then takes the old or the requested one


def test_rfc6749_5_1_unknown_members_are_ignored_and_kept():
    read = parse_token_response(answer({**GOOD, "instance_url": "https://x", "n": [1]}))
    assert read.others == {"instance_url": "https://x", "n": [1]}


def test_rfc6749_5_1_tokens_may_be_of_any_size():
    long = "x" * 200_000
    assert parse_token_response(answer({**GOOD, "access_token": long})).access_token == long


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (3600, 3600),
        ("3600", 3600),
        (3599.5, 3599.5),
        (None, None),
        (False, None),
        (True, None),
        ({}, None),
        ([], None),
        ("", None),
        ("soon", None),
        (0, None),
        (-5, None),
        ("1e3", 1000),
        (float("inf"), None),
        (10**400, None),
        (10**12, 10 * 365 * 86400.0),
    ],
)
def test_rfc6749_5_1_expires_in_is_optional_and_read_with_care(value, seconds):
    assert parse_lifetime(value) == seconds


@pytest.mark.parametrize("kind", ["Bearer", "bearer", "BEARER"])
def test_rfc6749_5_1_token_type_is_case_insensitive(kind):
    assert parse_token_response(answer({**GOOD, "token_type": kind})).access_token == "abc"


def test_rfc6749_7_1_a_token_of_unknown_type_is_not_used():
    with pytest.raises(errors.UnexpectedResponse) as caught:
        parse_token_response(answer({**GOOD, "token_type": "mac", "refresh_token": "next"}))
    assert caught.value.refresh_token == "next", "it may be the only one that lives"


@pytest.mark.parametrize("status", [200, 400, 401, 403])
@pytest.mark.parametrize(
    ("code", "kind"), [("invalid_grant", errors.InvalidGrantResponse), ("invalid_client", errors.InvalidClientResponse)]
)
def test_rfc6749_5_2_codes_count_whatever_the_status(status, code, kind):
    with pytest.raises(kind):
        parse_token_response(answer({"error": code}, status))


def test_rfc6749_6_form_body_in_utf8(wire):
    refresh(token="ü+/= &%")
    assert wire.sent[0][2]["Content-Type"] == "application/x-www-form-urlencoded"
    assert dict(form_of(wire.sent[0]))["refresh_token"] == "ü+/= &%"
    assert re.fullmatch(rb"[A-Za-z0-9_.~%=&-]+", wire.sent[0][3])


def test_rfc6749_6_a_new_refresh_token_replaces_and_an_omitted_one_stays():
    assert parse_token_response(answer({**GOOD, "refresh_token": "new"})).refresh_token == "new"
    assert parse_token_response(answer(GOOD)).refresh_token is None  # test_refresh_once holds what follows


@pytest.mark.parametrize("url", ["http://login.example.com/token", "ftp://x/", "https:///x", "//x", ""])
def test_rfc6749_10_4_secrets_go_over_tls_only(url):
    assert not is_secure(url)


def test_rfc6749_10_9_the_certificate_is_verified_by_default():
    assert Transport().verify is True


# RFC 6750


def test_rfc6750_2_1_the_token_goes_in_the_header_by_default():
    assert BearerUsage().headers("abc") == {"Authorization": "Bearer abc"}
    assert BearerUsage().in_query == ""


def answer_of(status, body):
    response = requests.Response()
    response.status_code, response.raw = status, io.BytesIO(body)
    return response


def test_rfc6750_3_1_insufficient_scope_does_not_refresh():
    assert not BearerUsage().means_expired(answer_of(403, b'{"error": "insufficient_scope"}'))


@pytest.mark.parametrize("body", [b"", b"\xff\x00", b"expired"])
def test_rfc6750_3_1_a_401_refreshes_with_or_without_a_challenge(body):
    # WWW-Authenticate is not read: several challenges, escapes and malformed ones change nothing.
    assert BearerUsage().means_expired(answer_of(401, body))


def test_oauth21_https_except_loopback():
    assert all(map(is_secure, ["http://127.0.0.1:1/x", "http://[::1]/x", "http://localhost/x", "https://a.example/"]))


# RFC 7009


def test_rfc7009_2_2_200_for_an_unknown_token_too(wire):
    wire.answers = [answer(b"")]
    revocation.request_revocation(
        replace(CLIENT, revocation_url="https://login.example.com/revoke"), "unknown", "refresh_token"
    )
    assert dict(form_of(wire.sent[0]))["token"] == "unknown"


def test_rfc7009_2_2_1_503_means_that_the_token_exists(wire):
    wire.answers = [answer({}, 503, **{"retry-after": "7"})]
    with pytest.raises(errors.ServerFailure) as caught:
        revocation.request_revocation(
            replace(CLIENT, revocation_url="https://login.example.com/revoke"), "x", "access_token"
        )
    assert caught.value.retry_after == 7


def test_rfc7009_2_2_1_unsupported_token_type(wire):
    wire.answers = [answer({"error": "unsupported_token_type"}, 400)]
    with pytest.raises(errors.ErrorResponse, match="of this kind"):
        revocation.request_revocation(
            replace(CLIENT, revocation_url="https://login.example.com/revoke"), "x", "access_token"
        )


# RFC 7662


def test_rfc7662_2_2_inactive_is_an_answer(wire):
    wire.answers = [answer({"active": False})]
    known = introspect(replace(CLIENT, introspection_url="https://login.example.com/introspect"), "x")
    assert (known.active, known.expires_in) == (False, None)


@pytest.mark.parametrize("body", [{}, {"active": "true"}, {"active": None}])
def test_rfc7662_2_2_active_is_required(wire, body):
    wire.answers = [answer(body)]
    with pytest.raises(errors.UnexpectedResponse):
        introspect(replace(CLIENT, introspection_url="https://login.example.com/introspect"), "x")


# RFC 8414

ISSUER = "https://login.example.com/tenant"


def metadata(**more):
    return answer({"issuer": ISSUER, "token_endpoint": URL, **more})


@pytest.mark.parametrize("other", [f"{ISSUER}/", ISSUER.upper(), "https://evil.example", None])
def test_rfc8414_3_3_another_issuer_and_nothing_of_it_is_used(wire, other):
    wire.answers = [answer({"issuer": other, "token_endpoint": URL})]
    with pytest.raises(errors.NotConnected) as caught:
        discovery.discover(ISSUER, Transport())
    assert caught.value.lasting


def test_rfc8414_3_1_the_well_known_part_goes_before_the_path(wire):
    wire.answers = [metadata()]
    discovery.discover(ISSUER, Transport())
    assert wire.sent[0][1] == "https://login.example.com/.well-known/oauth-authorization-server/tenant"


def test_rfc8414_2_without_a_list_of_methods_it_is_basic():
    assert CLIENT.auth_method == "client_secret_basic"


# RFC 7523


def key():
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    made = ec.generate_private_key(ec.SECP256R1())
    pem = made.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return assertions.SigningKey(pem.decode(), "k1")


def test_rfc7523_3_claims_and_a_fresh_jti_and_iat_for_each_attempt(wire):
    import jwt

    client = replace(CLIENT, auth_method="private_key_jwt", signing_key=key(), client_secret=None)
    refresh(client)
    refresh(client)
    seen = [
        jwt.decode(dict(form_of(sent))["client_assertion"], options={"verify_signature": False}) for sent in wire.sent
    ]
    for claims in seen:
        assert claims["iss"] == claims["sub"] == "my id"
        assert claims["aud"] == URL
        assert claims["iat"] < claims["exp"]
    assert seen[0]["jti"] != seen[1]["jti"]


def test_rfc7523_3_the_audience_may_be_the_issuer():
    assert discovery.assertion_audience(replace(CLIENT, assertion_audience="issuer", issuer=ISSUER)) == ISSUER


def test_rfc7523_2_2_a_key_that_cannot_sign_sends_nothing(wire):
    bad = replace(CLIENT, auth_method="private_key_jwt", signing_key=assertions.SigningKey("hidden"))
    with pytest.raises(errors.NotConnected) as caught:
        refresh(bad)
    assert (wire.sent, "hidden" in str(caught.value)) == ([], False)


# RFC 8705


def test_rfc8705_5_aliases_come_first_each_endpoint_by_itself(wire):
    document = metadata(
        revocation_endpoint="https://login.example.com/revoke",
        mtls_endpoint_aliases={"token_endpoint": "https://mtls.example.com/token"},
    )
    wire.answers = [document, document]  # one for each way to get there
    client = Client("id", "", None, "tls_client_auth", Transport(cert="/c.pem"), ISSUER)
    assert discovery.token_endpoint(client) == "https://mtls.example.com/token"
    assert discovery.find_endpoint(client, "revocation_endpoint") == "https://login.example.com/revoke"
    assert discovery.token_endpoint(replace(client, transport=Transport())) == URL


# RFC 8707


def test_rfc8707_2_resource_may_stand_more_than_once(wire):
    refresh(options=GrantOptions(resources=("https://a", "https://b")))
    assert [value for name, value in form_of(wire.sent[0]) if name == "resource"] == ["https://a", "https://b"]


# RFC 9449


def bound(**more):
    return replace(CLIENT, dpop_key=key(), **more)


def proof_of(sent):
    import jwt

    return jwt.decode(sent[2]["DPoP"], options={"verify_signature": False})


def wants_nonce(nonce):
    return answer({"error": "use_dpop_nonce"}, 400, **{"dpop-nonce": nonce})


def test_rfc9449_5_a_proof_on_every_token_request(wire):
    wire.answers = [answer({**GOOD, "token_type": "DPoP"})] * 2
    refresh(bound())
    token_endpoint.request_token(bound(), grants.parameters("client_credentials", CLIENT, PLAIN, GrantInputs(), ""))
    assert [proof_of(sent)["htu"] for sent in wire.sent] == [URL, URL]


@pytest.mark.parametrize("kind", ["Bearer", None])
def test_rfc9449_5_a_token_of_another_type_is_discarded(wire, kind):
    wire.answers = [answer({**GOOD, "token_type": kind, "refresh_token": "next"})]
    with pytest.raises(errors.WrongTokenType) as caught:
        refresh(bound())
    assert caught.value.refresh_token == "next"


def test_rfc9449_7_scheme_and_hash_of_the_token():
    session, network, _ = make(ok)
    session.get("https://api.example.com/a")
    ((_, authorization, claims),) = network.seen
    assert (authorization, claims["ath"]) == ("DPoP t1", ath("t1"))


def test_rfc9449_7_3_a_new_proof_for_each_retry():
    session, network, _ = make(ok)
    request = session.prepare_request(requests.Request("GET", "https://api.example.com/a"))
    for _ in range(3):
        session.send(request)
    assert len({claims["jti"] for _, _, claims in network.seen}) == 3


def test_rfc9449_8_the_request_again_with_the_servers_nonce_once(wire):
    wire.answers = [wants_nonce("one"), answer({**GOOD, "token_type": "DPoP"}), wants_nonce("two"), wants_nonce("3")]
    client = bound()
    refresh(client)
    with pytest.raises(errors.NonceRequired):
        refresh(client)
    assert [proof_of(sent).get("nonce") for sent in wire.sent] == [None, "one", "one", "two"]


def test_rfc9449_8_2_a_new_nonce_from_any_answer(wire):
    wire.answers = [answer({**GOOD, "token_type": "DPoP"}, **{"dpop-nonce": "one"})]
    client = bound()
    refresh(client)
    wire.answers = [answer({"error": "invalid_grant"}, 400, **{"dpop-nonce": "two"}), *wire.answers]
    with pytest.raises(errors.InvalidGrantResponse):
        refresh(client)
    wire.answers = [answer({**GOOD, "token_type": "DPoP"})]
    refresh(client)
    assert [proof_of(sent).get("nonce") for sent in wire.sent] == [None, "one", "two"]


def test_rfc9449_10_the_authorization_request_names_the_key():
    client = bound()
    url = authorization_code.begin(client, "https://login.example.com/authorize", "http://127.0.0.1/", PLAIN).url
    assert dict(parse_qsl(url.partition("?")[2]))["dpop_jkt"] == dpop.get_prover(client.dpop_key).thumbprint


# Nothing secret


def test_no_secret_in_errors_even_where_the_server_echoes_the_request(wire, caplog):
    caplog.set_level(logging.DEBUG)
    echo = "client s3c:ret+ü sent rt-very-secret"
    wire.answers = [answer({"error": "invalid_grant", "error_description": echo}, 400)]
    with pytest.raises(errors.InvalidGrantResponse) as caught:
        refresh(token="rt-very-secret")
    assert "s3c:ret" not in str(caught.value) + caplog.text
    assert "very-secret" not in str(caught.value) + caplog.text
