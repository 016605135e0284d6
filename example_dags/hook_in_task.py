"""The hook in a task of your own: its session keeps itself authorized, however long the task runs."""

from airflow_oauth_provider.hooks.oauth2 import OAuth2Hook

try:
    from airflow.sdk import dag, task
except ImportError:  # Airflow 2.11
    from airflow.decorators import dag, task


@dag(schedule=None)
def hook_in_task() -> None:
    @task
    def count_items() -> int:
        hook = OAuth2Hook("demo")
        with hook.get_conn() as session:
            answer = session.get(hook.url_from_endpoint("/items"))
            answer.raise_for_status()
            return len(answer.json()["items"])

    count_items()


hook_in_task()
