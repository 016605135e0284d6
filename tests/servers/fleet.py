"""Airflow as larger teams run it: CeleryExecutor, PostgreSQL, Redis, and workers that know no database.

with Fleet(dags_folder=folder) as fleet:
    run_id = fleet.airflow.trigger("fleet")
    fleet.kill_worker(0)
    fleet.start_worker()
    assert fleet.airflow.wait("fleet", run_id) == "success"
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Self

from scripts.environments import MAIN_AIRFLOW, python_of
from tests.servers.airflow import AirflowInstance
from tests.servers.processes import Process, free_port, wait_until
from tests.servers.redis import Redis

FAB = "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"


class Fleet:
    """An Airflow whose tasks run on Celery workers. Its users come from the FAB auth manager.

    :param dags_folder: where the DAGs are.
    :param workers: how many workers to start.
    :param concurrency: tasks that one worker runs at a time.
    """

    def __init__(self, dags_folder: Path, workers: int = 2, concurrency: int = 8) -> None:
        self._dags = dags_folder
        self._concurrency = concurrency
        self._workers = workers
        self._stack = ExitStack()
        self.workers: list[Process] = []

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            redis = stack.enter_context(Redis())
            self.airflow = stack.enter_context(
                AirflowInstance(
                    MAIN_AIRFLOW,
                    dags_folder=self._dags,
                    environ=self._options(redis.url),
                    python=python_of("fleet"),
                )
            )
            stack.callback(self._stop_workers)
            for _ in range(self._workers):
                self.start_worker()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _options(self, redis_url: str) -> dict[str, str]:
        # As many as the workers run at once: who waits at the broker counts as queued, and fails if that takes long.
        tasks = str(self._workers * self._concurrency)
        return {
            "AIRFLOW__CORE__AUTH_MANAGER": FAB,
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            "AIRFLOW__CORE__PARALLELISM": tasks,
            "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": tasks,
            "AIRFLOW__CELERY__BROKER_URL": redis_url,
            "AIRFLOW__CELERY__RESULT_BACKEND": redis_url,
            "AIRFLOW__CELERY__WORKER_CONCURRENCY": str(self._concurrency),
            "AIRFLOW__CELERY__WORKER_PREFETCH_MULTIPLIER": "1",
            # What a killed worker had is noticed within seconds rather than minutes.
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "3",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
            "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "45",
            "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "5",
        }

    def start_worker(self) -> Process:
        """Start one more worker, without anything that leads to the metadata database."""
        unknown = ("AIRFLOW__CORE__FERNET_KEY", "AIRFLOW__API_AUTH__JWT_SECRET", "AIRFLOW__API__SECRET_KEY")
        airflow, number = self.airflow, len(self.workers)
        home = airflow.folder / f"worker-{number}"
        home.mkdir()
        environ = {name: value for name, value in airflow.environ.items() if name not in unknown}
        environ |= {
            "AIRFLOW_HOME": str(home),
            "HOME": str(home),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/nobody.db",
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
        }
        command: list[str | Path] = [airflow.python, "-m", "airflow", "celery", "worker", "--skip-serve-logs"]
        command += ["--without-gossip", "--without-mingle", "--celery-hostname", f"worker-{number}@%h"]
        worker = Process(f"worker {number}", command, airflow.folder / f"worker-{number}.log", environ, cwd=home)
        self.workers.append(worker)
        wait_until(lambda: " ready." in worker.log_text(), 120, f"worker {number} is ready", worker, every=0.3)
        return worker

    def kill_worker(self, number: int) -> None:
        """SIGKILL for a worker and all that it started: nothing of it can say good-bye."""
        self.workers[number].kill()

    def _stop_workers(self) -> None:
        for worker in self.workers:
            worker.ask_to_stop()
        for worker in self.workers:
            worker.stop(grace=3)
