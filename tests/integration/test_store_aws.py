"""Tokens in AWS Secrets Manager: boto3 against moto's server.

moto does not say no where AWS would to too many versions, sizes and missing rights; it does refuse to move AWSCURRENT
from a version that does not have it, which is what the compare-and-set stands on.
"""

from __future__ import annotations

import json
import re
import threading
from dataclasses import replace

import boto3
import pytest
from botocore.exceptions import ClientError

from airflow_oauth_provider.exceptions import ConfigurationError, StaleVersion, StoreNotWritable, StoreUnavailable
from airflow_oauth_provider.stores.backend import StoreOptions
from airflow_oauth_provider.stores.factory import open_store
from airflow_oauth_provider.tokens.record import Lease, Record
from tests.servers.aws import AwsServer

DOCUMENT = {"client_id": "the-client", "client_secret": "s3cret-of-it", "refresh_token": "first", "team": "finance"}


@pytest.fixture(scope="module")
def moto():
    with AwsServer() as server:
        yield server


@pytest.fixture
def aws(moto, monkeypatch, request):
    environ = {
        "AWS_ENDPOINT_URL": moto.url,
        "AWS_ACCESS_KEY_ID": "anybody",
        "AWS_SECRET_ACCESS_KEY": "anything",
        "AWS_DEFAULT_REGION": moto.region,
    }
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    client = boto3.session.Session().client("secretsmanager")
    client.name = re.sub(r"\W", "-", request.node.name)
    client.create_secret(Name=client.name, SecretString=json.dumps(DOCUMENT))
    return client


def store_of(aws, **more):
    return open_store("xero", StoreOptions("aws_secrets_manager", aws_name=aws.name, **more))


def kept(aws):
    return json.loads(aws.get_secret_value(SecretId=aws.name, VersionStage="AWSCURRENT")["SecretString"])


def grown(record, token, **more):
    return replace(record, generation=record.generation + 1, refresh_token=token, access_token="at-" + token, **more)


def test_from_the_tokens_as_entered_to_a_rotation(aws):
    store = store_of(aws)
    first = store.read()
    assert (first.record.refresh_token, first.version) == ("first", None)
    assert store.read().kept == {"client_id": "the-client", "client_secret": "s3cret-of-it"}
    leased = replace(first.record, lease=Lease("me", 60, 1.9e9))
    version = store.write(leased, if_version=None)
    new = grown(first.record, "second")
    store.write(new, if_version=version)
    assert store_of(aws).read().record == new
    document = kept(aws)
    assert (document["refresh_token"], document["access_token"]) == ("second", "at-second")
    assert (document["team"], document["client_secret"]) == ("finance", "s3cret-of-it")
    assert "refresh_token" not in store_of(aws).read().kept


def test_a_stale_version_changes_nothing(aws):
    one, two = store_of(aws), store_of(aws)
    first = one.read().record
    two.read()
    version = one.write(grown(first, "second"), if_version=None)
    with pytest.raises(StaleVersion):
        two.write(grown(first, "other"), if_version=None)
    assert kept(aws)["refresh_token"] == "second"
    # The same again: its answer was lost.
    assert two.write(grown(first, "second"), if_version=None) == version


def test_what_a_person_changes_beside_the_record_makes_nothing_stale_and_stays(aws):
    store = store_of(aws)
    version = store.write(grown(store.read().record, "second"), if_version=None)
    # In two steps, because moto leaves AWSCURRENT on two versions when it has been moved before.
    before = aws.get_secret_value(SecretId=aws.name, VersionStage="AWSCURRENT")["VersionId"]
    text = json.dumps(kept(aws) | {"team": "sales"})
    written = aws.put_secret_value(SecretId=aws.name, SecretString=text, VersionStages=["BY_HAND"])["VersionId"]
    aws.update_secret_version_stage(
        SecretId=aws.name, VersionStage="AWSCURRENT", MoveToVersionId=written, RemoveFromVersionId=before
    )
    store.write(grown(Record(generation=1, refresh_token="second"), "third"), if_version=version)
    assert (kept(aws)["team"], kept(aws)["refresh_token"]) == ("sales", "third")


def test_of_many_writers_one_wins_each_round(aws):
    rounds, workers = 4, 4
    won = []

    def work(number):
        store = store_of(aws)
        while True:
            found = store.read()
            generation = found.record.generation
            if generation >= rounds:
                return
            try:
                store.write(grown(found.record, f"{generation + 1} by {number}"), if_version=found.version)
            except StaleVersion:
                continue
            won.append(generation + 1)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(won) == list(range(1, rounds + 1))


@pytest.mark.parametrize("before_the_move", [True, False])
def test_a_write_between_compare_and_set_is_seen_by_aws(aws, before_the_move):
    """Both have compared; the second one's move of AWSCURRENT is refused, and it finds out why."""
    one, two = store_of(aws), store_of(aws)
    first = one.read().record
    two.read()
    move = two._backend._call

    def late(what, method, request, *, elsewhere=False):
        if elsewhere is before_the_move and what == "written":
            one.write(grown(first, "second"), if_version=None)
        return move(what, method, request, elsewhere=elsewhere)

    two._backend._call = late
    with pytest.raises(StaleVersion):
        two.write(grown(first, "other"), if_version=None)
    assert kept(aws)["refresh_token"] == "second"


@pytest.mark.parametrize(
    ("code", "kind", "says"),
    [
        ("AccessDeniedException", StoreUnavailable, "UpdateSecretVersionStage"),
        ("LimitExceededException", StoreUnavailable, "half an hour"),
        ("ThrottlingException", StoreUnavailable, "Throttling"),
        ("InvalidRequestException", StoreNotWritable, "InvalidRequest"),
    ],
)
def test_errors(aws, code, kind, says):
    store = store_of(aws)
    first = store.read().record

    def refuse(**_):
        raise ClientError({"Error": {"Code": code, "Message": "you sent first-and-secret"}}, "PutSecretValue")

    store._backend._client.put_secret_value = refuse
    with pytest.raises(kind, match=says) as caught:
        store.write(grown(first, "second"), if_version=None)
    assert "first-and-secret" not in str(caught.value)


def test_places_that_do_not_do(aws, monkeypatch):
    aws.name = "nobody"
    with pytest.raises(StoreNotWritable, match="aws_region"):
        store_of(aws).read()
    aws.create_secret(Name="text", SecretString="s3cret, but no JSON")
    aws.name = "text"
    with pytest.raises(StoreNotWritable, match="JSON object") as caught:
        store_of(aws).read()
    assert "s3cret" not in str(caught.value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(StoreUnavailable, match="EndpointConnectionError"):
        store_of(aws).read()
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    with pytest.raises(StoreUnavailable, match="aws_region"):
        store_of(aws).read()
    aws.name = ""
    with pytest.raises(ConfigurationError, match="aws_name"):
        store_of(aws)
