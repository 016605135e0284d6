"""A whole Airflow on loopback: metadata database, API server, scheduler, DAG processor, triggerer.

    with AirflowInstance("3.3", dags_folder=folder) as airflow:
        airflow.add_connection("xero", {"conn_type": "oauth2", "host": ..., "extra": {...}})
        run_id = airflow.trigger("my_dag", {"answer": 42})
        assert airflow.wait("my_dag", run_id, timeout=120) == "success"
        airflow.xcom("my_dag", run_id, "refresh")

The same on all supported versions; on 2.11 the components are the webserver, the scheduler and the triggerer.
"""

from __future__ import annotations

import ast
import contextlib
import json
import shutil
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import requests

from scripts.environments import CELLS, MAIN_AIRFLOW, airflow_version_of, minor_of, python_of
from tests.servers.airflow_settings import ADMIN, Ports, Secrets, environment
from tests.servers.postgres import Postgres
from tests.servers.processes import LOOPBACK, Process, Server, ServerError, wait_until

FINISHED = ("success", "failed")
NOT_FOUND = 404
SERVER_ERROR = 500


class AirflowInstance(Server):
    """One Airflow, on a PostgreSQL of its own.

    Not on SQLite: Airflow 3 writes its audit log in the thread that serves all requests. While another request has
    written and not yet committed, the two wait for each other until SQLite gives up, and the answer is 500.
    """

    name = "airflow"

    def __init__(
        self,
        cell: str = MAIN_AIRFLOW,
        *,
        dags_folder: Path | str | None = None,
        components: Sequence[str] | None = None,
        environ: Mapping[str, str] | None = None,
        python: Path | None = None,
    ) -> None:
        super().__init__()
        if cell not in CELLS:
            raise ValueError(f"{cell!r} is none of {', '.join(CELLS)}")
        self.cell = cell
        self.version = version = minor_of(cell)
        self.python = python or python_of(cell)
        major, minor = version.split(".")
        self._number = (int(major), int(minor))
        self._postgres: Postgres | None = None
        self._dags = Path(dags_folder) if dags_folder else None
        self._components = components
        self._extra_environ = dict(environ or {})
        self.secrets = Secrets()
        self.ports = Ports()
        self.environ: dict[str, str] = {}
        self.processes: dict[str, Process] = {}
        self.username = ADMIN
        self._token = ""
        self._http = requests.Session()
        self._http.trust_env = False

    # Where it is

    @property
    def password(self) -> str:
        return self.secrets.password

    @property
    def home(self) -> Path:
        """AIRFLOW_HOME, with the logs below `logs`."""
        return self.folder / "home"

    @property
    def dags_folder(self) -> Path:
        return self._dags or self.folder / "dags"

    @property
    def db_url(self) -> str:
        if self._postgres is None:
            raise ServerError("Airflow has no database before it is started")
        return self._postgres.url("airflow")

    @property
    def url(self) -> str:
        """The UI's address; `username` and `password` sign in."""
        return f"http://{LOOPBACK}:{self.ports.api}"

    @property
    def api_url(self) -> str:
        return f"{self.url}/api/{'v2' if self._number >= (3, 0) else 'v1'}"

    # Its life

    def _launch(self) -> None:
        for folder in (self.home, self.dags_folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._postgres = Postgres().start()
        self._postgres.create_database("airflow")
        self.ports = Ports()
        self.environ = {
            **environment(
                self._number, self.python, self.home, self.dags_folder, self.db_url, self.ports, self.secrets
            ),
            **self._extra_environ,
        }
        self._check_version()
        self.cli("db", "migrate", timeout=300)
        if self._number < (3, 0) or self.environ.get("AIRFLOW__CORE__AUTH_MANAGER", "").endswith("FabAuthManager"):
            self._create_user()
        for component in self._components or self._all_components():
            self.start_component(component)
        self._wait_until_healthy()

    def _all_components(self) -> Sequence[str]:
        if self._number >= (3, 0):
            return ("api-server", "scheduler", "dag-processor", "triggerer")
        return ("webserver", "scheduler", "triggerer")

    def start_component(self, component: str) -> None:
        """Start one of the components, for example after `stop_component`."""
        command: list[str | Path] = [self.python, "-m", "airflow", component]
        if component in ("scheduler", "triggerer"):
            command.append("--skip-serve-logs")  # the log files are at hand, and that server listens to the world
        log = self.folder / f"{component}.log"
        process = Process(f"airflow {component}", command, log, self.environ, cwd=self.folder)
        self.processes[component] = process
        if component in ("api-server", "webserver"):
            self.process = process  # the one that `Server.start` looks at for a port in use

    def stop_component(self, component: str) -> None:
        self.processes.pop(component).stop()

    def _wait_until_healthy(self) -> None:
        wanted = {"api-server": "metadatabase", "webserver": "metadatabase", "dag-processor": "dag_processor"}
        parts = {wanted.get(component, component) for component in self.processes}
        if not {"api-server", "webserver"} & self.processes.keys():
            return
        wait_until(lambda: self._healthy(parts), 180, f"Airflow {self.version} is healthy", self.process, every=0.3)

    def _healthy(self, parts: set[str]) -> bool:
        for process in self.processes.values():
            if not process.is_running():
                raise ServerError(f"{process.name} ended (exit code {process.exit_code}).\n{process.log_tail()}")
        path = "/api/v2/monitor/health" if self._number >= (3, 0) else "/health"
        try:
            answer = self._http.get(f"{self.url}{path}", timeout=10)
        except requests.RequestException:
            return False
        if not answer.ok:
            return False
        health = answer.json()
        return all((health.get(part) or {}).get("status") == "healthy" for part in parts)

    def _end(self) -> None:
        # All at once: each takes a second or two to end, and nothing is worth saving.
        for process in self.processes.values():
            process.ask_to_stop()
        for process in self.processes.values():
            process.stop(grace=3)
        self.processes.clear()
        self.process = None
        if self._postgres is not None:
            self._postgres.stop()
            self._postgres = None

    def _check_version(self) -> None:
        wanted = airflow_version_of(self.cell)
        code = "import importlib.metadata; print(importlib.metadata.version('apache-airflow'))"
        found = self._run([str(self.python), "-c", code], 60).strip()
        if found != wanted:
            raise ServerError(f"{self.python} has Airflow {found}; constraints/airflow-{self.cell}.txt says {wanted}")

    def _create_user(self) -> None:
        self.cli(
            # One word, since a generated password may begin with a hyphen.
            *("users", "create", "--username", ADMIN, f"--password={self.password}", "--role", "Admin"),
            *("--firstname", "Rig", "--lastname", "Admin", "--email", "admin@example.org"),
        )

    def cli(self, *words: str, timeout: float = 120) -> str:
        """Run `airflow WORDS` in this instance's environment; gives what it prints."""
        return self._run([str(self.python), "-m", "airflow", *words], timeout)

    def _run(self, command: list[str], timeout: float) -> str:
        done = subprocess.run(
            command,
            env=self.environ,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if done.returncode:
            raise ServerError(f"{' '.join(command[1:5])} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        return done.stdout

    # The REST API

    def api(self, method: str, path: str, body: Any = None, params: Mapping[str, str] | None = None) -> Any:
        """Call the REST API as administrator, `path` from below /api/v2 (2.11: /api/v1); gives the JSON."""
        answer = self.request(method, f"{self.api_url}{path}", json=body, params=params)
        if not answer.ok:
            log = self.process.log_tail() if self.process and answer.status_code >= SERVER_ERROR else ""
            said = f"{answer.status_code}: {answer.text[:2000]}\n{log}".rstrip()
            raise ServerError(f"Airflow: {method} {path} gave {said}")
        return answer.json() if answer.content else None

    def request(self, method: str, url: str, **options: Any) -> requests.Response:
        """An authorised request to any URL of this Airflow, such as a plugin's route."""
        if self._number < (3, 0):
            return self._http.request(method, url, auth=(ADMIN, self.password), timeout=60, **options)
        headers = {**options.pop("headers", {}), "Authorization": f"Bearer {self.token()}"}
        return self._http.request(method, url, headers=headers, timeout=60, **options)

    def token(self) -> str:
        """A bearer token for the API. Airflow 3 only."""
        if not self._token:
            answer = self._http.post(
                f"{self.url}/auth/token", json={"username": ADMIN, "password": self.password}, timeout=60
            )
            if not answer.ok:
                raise ServerError(f"Airflow: signing in gave {answer.status_code}: {answer.text[:500]}")
            self._token = answer.json()["access_token"]
        return self._token

    # Connections and variables

    def add_connection(self, conn_id: str, fields: Mapping[str, Any]) -> None:
        """Store a connection as the UI does; `extra` may be a dict. One of the same id is replaced."""
        body = {"connection_id": conn_id, **fields}
        if isinstance(body.get("extra"), Mapping):
            body["extra"] = json.dumps(body["extra"])
        if self.request("GET", f"{self.api_url}/connections/{conn_id}").ok:
            self.api("DELETE", f"/connections/{conn_id}")
        self.api("POST", "/connections", body)

    def connection(self, conn_id: str) -> dict[str, Any]:
        """The connection as it is in the metadata database, decrypted, `extra` as a dict: nothing is masked."""
        names: tuple[str, ...] = ("conn_type", "host", "login", "password", "port", "schema", "extra")
        names += ("is_encrypted", "is_extra_encrypted")
        columns = ", ".join(f'"{name}"' for name in names)  # "schema" is a word of SQL
        rows = self.sql(f"SELECT {columns} FROM connection WHERE conn_id = :1", conn_id)
        if not rows:
            raise ServerError(f"There is no connection {conn_id!r} in the metadata database")
        found = dict(zip(names, rows[0], strict=True))
        if found.pop("is_encrypted") and found["password"]:
            found["password"] = self.decrypt(found["password"])
        if found.pop("is_extra_encrypted") and found["extra"]:
            found["extra"] = self.decrypt(found["extra"])
        found["extra"] = json.loads(found["extra"] or "{}")
        return found

    def variable(self, key: str) -> str | None:
        """A variable's decrypted value from the metadata database; None when there is none."""
        rows = self.sql("SELECT val, is_encrypted FROM variable WHERE key = :1", key)
        if not rows:
            return None
        value, encrypted = rows[0]
        return self.decrypt(value) if encrypted else value

    def decrypt(self, value: str) -> str:
        from cryptography.fernet import Fernet

        return Fernet(self.secrets.fernet_key.encode()).decrypt(value.encode()).decode()

    def sql(self, statement: str, *values: str) -> list[tuple[Any, ...]]:
        """Read from the metadata database; `:1`, `:2` ... stand for `values`."""
        import psycopg2

        scheme, _, rest = self.db_url.partition("://")
        for number in range(1, len(values) + 1):
            statement = statement.replace(f":{number}", "%s")
        with contextlib.closing(psycopg2.connect(f"{scheme.partition('+')[0]}://{rest}")) as connection:
            cursor = connection.cursor()
            cursor.execute(statement, values or None)  # with an empty tuple it would format each %
            return [tuple(row) for row in cursor.fetchall()]

    # DAG runs

    def add_dag(self, name: str, source: str | Path) -> None:
        """Put a DAG file into the DAG folder: its text, or a file to copy."""
        target = self.dags_folder / name
        if isinstance(source, Path):
            shutil.copyfile(source, target)
        else:
            target.write_text(source)

    def wait_for_dag(self, dag_id: str, timeout: float = 90) -> None:
        """Wait until the DAG is there; what Airflow could not import is in the error."""

        def there() -> bool:
            # The details come from the serialized DAG, which is written after the DAG's own row. A run that
            # is started between the two fails before its first task begins.
            answers = [self.request("GET", f"{self.api_url}/dags/{dag_id}{part}") for part in ("", "/details")]
            return all(answer.ok for answer in answers) and not answers[0].json().get("is_stale", False)

        try:
            wait_until(there, timeout, f"DAG {dag_id} is there", every=0.3)
        except ServerError as error:
            raise ServerError(f"{error}\nImport errors: {self.import_errors()}") from None

    def import_errors(self) -> list[dict[str, Any]]:
        errors: list[dict[str, Any]] = self.api("GET", "/importErrors")["import_errors"]
        return errors

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> str:
        """Unpause the DAG and start a run; gives its run id."""
        self.wait_for_dag(dag_id)
        self.api("PATCH", f"/dags/{dag_id}", {"is_paused": False})
        run_id = f"test-{uuid.uuid4().hex[:8]}"
        body: dict[str, Any] = {"dag_run_id": run_id, "conf": dict(conf or {})}
        if self._number >= (3, 0):
            body["logical_date"] = None
        self.api("POST", f"/dags/{dag_id}/dagRuns", body)
        return run_id

    def wait(self, dag_id: str, run_id: str, timeout: float = 180) -> str:
        """Wait until the run has ended: "success" or "failed"."""
        deadline = time.monotonic() + timeout
        while (state := self.run_state(dag_id, run_id)) not in FINISHED:
            if time.monotonic() > deadline:
                raise ServerError(
                    f"Run {run_id} of {dag_id} is still {state} after {timeout:g} s. {self.explain(dag_id, run_id)}"
                )
            time.sleep(0.3)
        return state

    def run(self, dag_id: str, conf: Mapping[str, Any] | None = None, timeout: float = 180) -> str:
        """Trigger, wait, insist on success with the tasks' logs in the error; gives the run id."""
        run_id = self.trigger(dag_id, conf)
        if (state := self.wait(dag_id, run_id, timeout)) != "success":
            raise ServerError(f"Run {run_id} of {dag_id}: {state}. {self.explain(dag_id, run_id)}")
        return run_id

    def run_state(self, dag_id: str, run_id: str) -> str:
        state: str = self.api("GET", f"/dags/{dag_id}/dagRuns/{run_id}")["state"]
        return state

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances"
        found: list[dict[str, Any]] = self.api("GET", path)["task_instances"]
        return found

    def task_states(self, dag_id: str, run_id: str) -> dict[str, str]:
        """Task id to state."""
        return {task["task_id"]: task["state"] for task in self.task_instances(dag_id, run_id)}

    def task_log(self, dag_id: str, run_id: str, task_id: str) -> str:
        """What a task logged, all attempts, as it is in the log files."""
        folder = self.home / "logs" / f"dag_id={dag_id}" / f"run_id={run_id}" / f"task_id={task_id}"
        return "\n".join(path.read_text(errors="replace") for path in sorted(folder.rglob("*.log*")))

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value") -> Any:
        """A task's XCom; None when it pushed none."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}"
        params = {"deserialize": "true"} if self._number < (3, 0) else {"stringify": "false"}
        answer = self.request("GET", f"{self.api_url}{path}", params=params)
        if answer.status_code == NOT_FOUND:
            return None
        answer.raise_for_status()
        value = answer.json()["value"]
        return _as_value(value) if self._number < (3, 0) else value

    def log_files(self) -> list[Path]:
        """Every log file of the instance: the tasks', the components', the DAG processor's."""
        return sorted(path for path in [*self.folder.rglob("*.log*"), *self.home.glob("logs/**/*")] if path.is_file())

    def explain(self, dag_id: str, run_id: str) -> str:
        """For an error: the states of the tasks and the ends of the logs of those that did not succeed."""
        states = self.task_states(dag_id, run_id)
        parts = [f"Tasks: {states}"]
        logs = {task: self.task_log(dag_id, run_id, task) for task in states}
        for task, state in states.items():
            if state not in ("success", None, "upstream_failed"):
                parts.append(f"--- log of {task}:\n{logs[task][-4000:]}")
        if not all(log.strip() for log in logs.values()):  # a task that never began: the others know why
            parts += [f"--- {name}:\n{process.log_tail()}" for name, process in self.processes.items()]
        return "\n".join(parts)


def _as_value(text: Any) -> Any:
    """Airflow 2's API shows a value as text, in JSON or in Python's notation."""
    if not isinstance(text, str):
        return text
    with contextlib.suppress(ValueError):
        return json.loads(text)
    with contextlib.suppress(ValueError, SyntaxError):
        return ast.literal_eval(text)
    return text
