"""Commands for people: ``airflow oauth2`` from Airflow 3.2 on, and ``python -m airflow_oauth_provider`` everywhere."""
