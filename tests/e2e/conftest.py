"""A running Airflow, and the servers that its DAGs talk to."""

from tests.servers.fixtures import (
    airflow,
    airflow_2,
    authorization_server,
    django_server,
    openbao,
    postgres,
    scripted_server,
    scripted_tls_server,
)

__all__ = [
    "airflow",
    "airflow_2",
    "authorization_server",
    "django_server",
    "openbao",
    "postgres",
    "scripted_server",
    "scripted_tls_server",
]
