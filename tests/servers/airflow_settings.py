"""How the tests' Airflow is configured: alone on the machine, quick to see DAGs, telling nobody."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from scripts.environments import clean_environ
from tests.servers.processes import LOOPBACK, free_port

ADMIN = "admin"


def _fernet_key() -> str:
    from cryptography.fernet import Fernet

    return Fernet.generate_key().decode()


@dataclass
class Secrets:
    """What an instance must not share with another."""

    fernet_key: str = field(default_factory=_fernet_key, repr=False)
    jwt: str = field(default_factory=lambda: secrets.token_hex(32), repr=False)
    web: str = field(default_factory=lambda: secrets.token_hex(32), repr=False)
    password: str = field(default_factory=lambda: secrets.token_urlsafe(16), repr=False)


@dataclass
class Ports:
    api: int = field(default_factory=free_port)
    worker_logs: int = field(default_factory=free_port)
    trigger_logs: int = field(default_factory=free_port)


def environment(
    version: tuple[int, int], python: Path, home: Path, dags: Path, db_url: str, ports: Ports, secret: Secrets
) -> dict[str, str]:
    """All environment variables of an instance's processes."""
    options = _common(home, dags, db_url, ports, secret)
    options |= _airflow_3(version, home, ports, secret) if version >= (3, 0) else _airflow_2(ports, secret)
    variables = {f"AIRFLOW__{section.upper()}__{key.upper()}": value for (section, key), value in options.items()}
    path = clean_environ().get("PATH", "")
    return clean_environ(
        AIRFLOW_HOME=str(home),
        HOME=str(home),  # gunicorn keeps a control socket there; two instances must not share it
        PATH=f"{python.parent}:{path}",  # the scheduler starts `airflow` by name
        SCARF_ANALYTICS="false",
        DO_NOT_TRACK="1",
        no_proxy="*",
        **variables,
    )


Options = dict[tuple[str, str], str]


def sqlite_url(home: Path | str) -> str:
    """SQLAlchemy's URL of the SQLite file of the Airflow below `home`.

    For what needs no API server. SQLite gives up after five seconds by itself, too soon on a busy machine.
    """
    return f"sqlite:///{home}/airflow.db?timeout=120"


def _common(home: Path, dags: Path, db_url: str, ports: Ports, secret: Secrets) -> Options:
    return {
        ("core", "dags_folder"): str(dags),
        ("core", "load_examples"): "False",
        ("core", "fernet_key"): secret.fernet_key,
        ("core", "parallelism"): "8",
        ("core", "max_active_tasks_per_dag"): "8",
        ("core", "dags_are_paused_at_creation"): "True",  # `trigger` unpauses; nothing runs by its schedule
        ("core", "test_connection"): "Enabled",
        ("core", "executor"): "LocalExecutor",
        ("database", "sql_alchemy_conn"): db_url,
        ("database", "load_default_connections"): "False",
        ("logging", "base_log_folder"): str(home / "logs"),
        ("logging", "worker_log_server_port"): str(ports.worker_logs),
        ("logging", "trigger_log_server_port"): str(ports.trigger_logs),
        ("logging", "colored_console_log"): "False",
        ("usage_data_collection", "enabled"): "False",
        ("scheduler", "enable_health_check"): "False",
        ("scheduler", "scheduler_idle_sleep_time"): "0.3",
        ("scheduler", "scheduler_heartbeat_sec"): "2",
        ("scheduler", "task_queued_timeout_check_interval"): "30",
        ("secrets", "use_cache"): "False",
    }


def _airflow_3(version: tuple[int, int], home: Path, ports: Ports, secret: Secrets) -> Options:
    passwords = home / "passwords.json"
    passwords.touch(0o600)
    passwords.write_text(json.dumps({ADMIN: secret.password}))
    url = f"http://{LOOPBACK}:{ports.api}"
    # Tasks give the API server five seconds. On a busy machine they then ask again whether they may start, and hear
    # that the task runs elsewhere already: they themselves, since the first question was heard. From 3.1 on that time
    # is a setting.
    patience = {("workers", "execution_api_timeout"): "60"}
    retries = {("core", "default_task_retries"): "2", ("core", "default_task_retry_delay"): "1"}
    return (retries if version < (3, 1) else patience) | {
        ("core", "simple_auth_manager_users"): f"{ADMIN}:admin",
        ("core", "simple_auth_manager_passwords_file"): str(passwords),
        ("core", "execution_api_server_url"): f"{url}/execution/",
        ("api", "base_url"): url,
        ("api", "host"): LOOPBACK,
        ("api", "port"): str(ports.api),
        ("api", "workers"): "1",
        ("api", "secret_key"): secret.web,
        ("api_auth", "jwt_secret"): secret.jwt,
        ("api_auth", "jwt_issuer"): "test",
        ("dag_processor", "refresh_interval"): "5",
        ("dag_processor", "bundle_refresh_check_interval"): "2",
        ("dag_processor", "min_file_process_interval"): "60",  # a file that changes is read at once
        ("dag_processor", "parsing_processes"): "1",
        ("triggerer", "default_capacity" if version < (3, 0) else "capacity"): "1000",
    }


def _airflow_2(ports: Ports, secret: Secrets) -> Options:
    return {
        ("api", "auth_backends"): "airflow.providers.fab.auth_manager.api.auth.backend.basic_auth",
        ("api", "enable_xcom_deserialize_support"): "True",
        ("webserver", "base_url"): f"http://{LOOPBACK}:{ports.api}",
        ("webserver", "web_server_host"): LOOPBACK,
        ("webserver", "web_server_port"): str(ports.api),
        ("webserver", "workers"): "1",
        ("webserver", "secret_key"): secret.web,
        ("scheduler", "dag_dir_list_interval"): "5",
        ("scheduler", "min_file_process_interval"): "60",
        ("scheduler", "parsing_processes"): "1",
        ("metrics", "timer_unit_consistency"): "True",  # Airflow 2.11 warns at every import without it
    }
