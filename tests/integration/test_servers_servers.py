"""The real servers do what the tests that use them rely on."""

import threading

import psycopg2
import psycopg2.errors
import pytest
import requests

from tests.servers.processes import ServerError
from tests.servers.sign_in import approve_device, sign_in, token_request


def spend(server, client, refresh_token):
    return token_request(server, server.client(client), {"grant_type": "refresh_token", "refresh_token": refresh_token})


def api_status(server, access_token):
    with requests.Session() as session:
        session.trust_env = False
        headers = {"Authorization": f"Bearer {access_token}"}
        return session.get(f"{server.api_url}/items?page=2", headers=headers, timeout=10).status_code


class TestOpenBao:
    def test_a_stale_version_and_a_missing_right_are_refused(self, openbao):
        openbao.write("test/cas", {"n": 1})
        with pytest.raises(ServerError, match="gave 400"):
            openbao.api("POST", "secret/data/test/cas", {"data": {"n": 2}, "options": {"cas": 0}})
        token = openbao.limited_token({"secret/data/test/*": ["read"]})
        assert openbao.api("GET", "secret/data/test/cas", token=token)["data"]["data"] == {"n": 1}
        with pytest.raises(ServerError, match="gave 403"):
            openbao.api("POST", "secret/data/test/cas", {"data": {"n": 3}}, token=token)

    def test_both_versions_of_kv(self, openbao):
        openbao.mount_kv("test-one", version=1)
        openbao.write("a", {"x": "y"}, mount="test-one", version=1)
        assert openbao.read("a", mount="test-one", version=1) == {"x": "y"}
        assert openbao.read("nothing/here") == {}

    def test_sealed_and_restarted(self, sealable_openbao):
        sealable_openbao.write("test", {"kept": "yes"})
        sealable_openbao.seal()
        with pytest.raises(ServerError, match="gave 503"):
            sealable_openbao.api("GET", "secret/data/test")
        sealable_openbao.unseal()
        sealable_openbao.restart()
        assert sealable_openbao.read("test") == {"kept": "yes"}


def test_postgres_locks_rows(postgres):
    postgres.create_database("test")
    url = postgres.url("test", driver="postgresql")
    postgres.sql("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)", "test")
    one, two = psycopg2.connect(url), psycopg2.connect(url)
    try:
        one.cursor().execute("SELECT * FROM t WHERE id = 1 FOR UPDATE")
        with pytest.raises(psycopg2.errors.LockNotAvailable):
            two.cursor().execute("SELECT * FROM t WHERE id = 1 FOR UPDATE NOWAIT")
    finally:
        one.close()
        two.close()


class TestAuthorizationServer:
    @pytest.mark.parametrize("client", ["basic", "post", "public", "secret-jwt", "key-jwt"])
    def test_sign_in_and_refresh(self, authorization_server, client):
        first = sign_in(authorization_server, client)
        second = spend(authorization_server, client, first["refresh_token"])
        assert second["refresh_token"] != first["refresh_token"]
        assert api_status(authorization_server, second["access_token"]) == 200

    def test_a_reuse_takes_the_grant_with_it(self, authorization_server):
        before = authorization_server.stats()
        first = sign_in(authorization_server)["refresh_token"]
        second = spend(authorization_server, "basic", first)
        with pytest.raises(ServerError, match="invalid_grant"):
            spend(authorization_server, "basic", first)
        with pytest.raises(ServerError, match="invalid_grant"):
            spend(authorization_server, "basic", second["refresh_token"])
        assert api_status(authorization_server, second["access_token"]) == 401
        after = authorization_server.stats()
        assert (after["spends"] - before["spends"], after["reuses"] - before["reuses"]) == (1, 1)
        assert first not in str(authorization_server.token_log())

    def test_of_many_at_once_one_wins_and_the_others_are_seen(self, authorization_server):
        before = authorization_server.stats()
        token = sign_in(authorization_server)["refresh_token"]
        outcomes = []

        def race():
            try:
                outcomes.append(bool(spend(authorization_server, "basic", token)))
            except ServerError:
                outcomes.append(False)

        threads = [threading.Thread(target=race) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert outcomes.count(True) == 1
        assert authorization_server.stats()["reuses"] - before["reuses"] == 7

    def test_device_flow(self, authorization_server):
        client = authorization_server.client("public")
        form = {"client_id": client.client_id, "scope": "read"}
        device = requests.post(authorization_server.device_url, data=form, timeout=10).json()
        approve_device(authorization_server, device["verification_uri_complete"])
        grant = "urn:ietf:params:oauth:grant-type:device_code"
        tokens = token_request(
            authorization_server, client, {"grant_type": grant, "device_code": device["device_code"]}
        )
        assert api_status(authorization_server, tokens["access_token"]) == 200

    def test_mutual_tls(self, mtls_authorization_server):
        tokens = sign_in(mtls_authorization_server, "tls")
        assert spend(mtls_authorization_server, "tls", tokens["refresh_token"])["refresh_token"]


class TestDjangoServer:
    def test_the_old_access_token_dies_and_grace_gives_the_same_again(self, django_server):
        first = sign_in(django_server)
        assert api_status(django_server, first["access_token"]) == 200
        second = spend(django_server, "basic", first["refresh_token"])
        assert api_status(django_server, first["access_token"]) == 401
        assert api_status(django_server, second["access_token"]) == 200
        django_server.configure(grace_period=60)
        try:
            assert spend(django_server, "basic", first["refresh_token"]) == second
        finally:
            django_server.configure(grace_period=0)
        before = django_server.stats()["reuses"]
        with pytest.raises(ServerError, match="invalid_grant"):
            spend(django_server, "basic", first["refresh_token"])
        assert django_server.stats()["reuses"] == before + 1


def test_aws(aws_server):
    answer = requests.post(
        aws_server.url,
        data="{}",
        headers={
            "X-Amz-Target": "secretsmanager.ListSecrets",
            "Content-Type": "application/x-amz-json-1.1",
            "Authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/eu-central-1/secretsmanager/aws4_request",
        },
        timeout=10,
    )
    assert answer.json()["SecretList"] == []
