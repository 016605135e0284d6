"""The one room that knows how Airflow's versions differ, each difference with its reason.

Nothing is imported here, so that each process pays for what it uses only.
"""
