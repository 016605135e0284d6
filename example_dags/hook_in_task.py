"""The hook in a task of your own: its session keeps itself authorized, however long the task runs."""

from airflow.providers.common.compat.sdk import dag, task

from airflow_oauth_provider.hooks.oauth2 import OAuth2Hook


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
