"""Airflow's own HTTP classes on an ``oauth2`` connection: nothing is sent, and no error shows a secret.

They build ``HttpHook`` or ``HttpAsyncHook`` themselves, which make a header of each key in ``extra`` that they
do not know. Classes of other providers that do so are here where the provider is small. Those of Amazon's and Google's
were tried by hand with 9.39.0 and 22.8.0: ``HttpToS3Operator`` and ``HttpToGCSOperator`` send nothing either.
"""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.apache.livy.hooks.livy import LivyAsyncHook, LivyHook
from airflow.providers.apache.livy.operators.livy import LivyOperator
from airflow.providers.apache.livy.sensors.livy import LivySensor
from airflow.providers.apache.livy.triggers.livy import LivyTrigger
from airflow.providers.discord.hooks.discord_webhook import DiscordWebhookAsyncHook, DiscordWebhookHook
from airflow.providers.discord.operators.discord_webhook import DiscordWebhookOperator
from airflow.providers.http.hooks.http import HttpAsyncHook, HttpHook
from airflow.providers.http.notifications.http import HttpNotifier
from airflow.providers.http.sensors.http import HttpSensor
from airflow.providers.http.triggers.http import HttpSensorTrigger, HttpTrigger

from airflow_oauth_provider.compat.extra_json import prepare_extra, set_member
from tests.servers.scripted import ScriptedServer

SECRETS = ("client-SECRET", "entered-SECRET", "parameter-SECRET", "header-SECRET", "key-SECRET", "record-SECRET")
EXTRA: dict[str, Any] = {
    "private_key": "\nkey-SECRET\n",  # no header, so that its error would quote it
    "extra_params": {"client_assertion": "parameter-SECRET"},
    "headers": {"x-api-key": "header-SECRET"},
    "refresh_token": "entered-SECRET",
}


def sense(conn_id: str) -> None:
    HttpSensor(task_id="sense", http_conn_id=conn_id, endpoint="/items", response_check=bool).poke({})


def call(conn_id: str) -> None:
    HttpHook(method="GET", http_conn_id=conn_id).run("/items", headers={"a": "b"})


def notify(conn_id: str) -> None:
    HttpNotifier(http_conn_id=conn_id, endpoint="/items").notify({})


def notify_async(conn_id: str) -> None:
    asyncio.run(HttpNotifier(http_conn_id=conn_id, endpoint="/items").async_notify({}))


def call_async(conn_id: str) -> None:
    async def run() -> None:
        import aiohttp

        async with aiohttp.ClientSession() as session:
            await HttpAsyncHook(method="GET", http_conn_id=conn_id).run(session=session, endpoint="/items")

    asyncio.run(run())


def defer(conn_id: str) -> None:
    """What ``HttpOperator(deferrable=True)`` hands to the triggerer."""
    _fire(HttpTrigger(http_conn_id=conn_id, method="GET", endpoint="/items"))


def sense_deferred(conn_id: str) -> None:
    """What ``HttpSensor(deferrable=True)`` hands to the triggerer; it tries again for ever, hence the bound."""
    trigger = HttpSensorTrigger(http_conn_id=conn_id, endpoint="/items", poke_interval=0.05)
    _fire(trigger)


def submit_to_livy(conn_id: str) -> None:
    LivyHook(livy_conn_id=conn_id).post_batch(file="job.jar")


def look_at_livy_async(conn_id: str) -> None:
    asyncio.run(LivyAsyncHook(livy_conn_id=conn_id).get_batch_state(1))


def operate_livy(conn_id: str) -> None:
    LivyOperator(task_id="submit", livy_conn_id=conn_id, file="job.jar").execute({})


def sense_livy(conn_id: str) -> None:
    LivySensor(task_id="sense", livy_conn_id=conn_id, batch_id=1).poke({})


def defer_livy(conn_id: str) -> None:
    """What ``LivyOperator(deferrable=True)`` hands to the triggerer."""
    _fire(LivyTrigger(batch_id=1, spark_params={}, livy_conn_id=conn_id, polling_interval=1))


DISCORD = {"webhook_endpoint": "webhooks/1/abc", "message": "done"}


def tell_discord(conn_id: str) -> None:
    DiscordWebhookHook(http_conn_id=conn_id, **DISCORD).execute()


def tell_discord_async(conn_id: str) -> None:
    asyncio.run(DiscordWebhookAsyncHook(http_conn_id=conn_id, **DISCORD).execute())


def operate_discord(conn_id: str) -> None:
    DiscordWebhookOperator(task_id="tell", http_conn_id=conn_id, **DISCORD).execute({})


def _fire(trigger: Any) -> None:
    async def run() -> Any:
        async for event in trigger.run():
            return event
        return None

    event = asyncio.run(asyncio.wait_for(run(), 60))
    payload = getattr(event, "payload", None)
    if isinstance(payload, dict) and payload.get("status") == "error":
        raise RuntimeError(str(payload))


CLASSES: dict[str, Callable[[str], None]] = {
    "HttpHook, as of HttpToS3Operator and HttpToGCSOperator": call,
    "HttpSensor": sense,
    "HttpSensor(deferrable=True)": sense_deferred,
    "HttpOperator(deferrable=True)": defer,
    "HttpAsyncHook": call_async,
    "HttpNotifier": notify,
    "HttpNotifier, asynchronous": notify_async,
    "LivyHook": submit_to_livy,
    "LivyAsyncHook": look_at_livy_async,
    "LivyOperator": operate_livy,
    "LivySensor": sense_livy,
    "LivyOperator(deferrable=True)": defer_livy,
    "DiscordWebhookHook": tell_discord,
    "DiscordWebhookAsyncHook": tell_discord_async,
    "DiscordWebhookOperator": operate_discord,
}


@pytest.fixture
def server():
    with ScriptedServer() as started:
        yield started


def define(monkeypatch: pytest.MonkeyPatch, server: ScriptedServer, extra: str) -> None:
    connection = {
        "conn_type": "oauth2",
        "host": server.url,
        "login": "client-id",
        "password": "client-SECRET",
        "extra": extra,
    }
    monkeypatch.setenv("AIRFLOW_CONN_GUARDED", json.dumps(connection))


@pytest.mark.parametrize("name", CLASSES)
def test_nothing_is_sent_and_no_error_shows_a_secret(server, monkeypatch, caplog, name):
    extra = set_member(prepare_extra(json.dumps(EXTRA), with_key=True), '{"refresh_token": "record-SECRET"}')
    define(monkeypatch, server, extra)
    with pytest.raises(Exception) as failure:
        CLASSES[name]("guarded")
    said = "".join(traceback.format_exception(failure.value)) + caplog.text
    assert server.requests == []
    assert [secret for secret in SECRETS if secret in said] == []


@pytest.mark.parametrize("name", [name for name in CLASSES if "deferrable" not in name and "Notifier" not in name])
def test_without_the_guard_they_send_every_key(server, monkeypatch, name):
    """So the test above sees what there is to see."""
    define(monkeypatch, server, json.dumps({"refresh_token": "entered-SECRET"}))
    try:
        CLASSES[name]("guarded")
    except Exception as error:  # noqa: BLE001 - what the server answers is of no interest
        print(type(error).__name__)  # noqa: T201
    assert "entered-SECRET" in str(server.requests[0].headers)
