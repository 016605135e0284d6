"""The one room that knows how Airflow's versions differ, each difference with its reason.

Nothing is imported here: each process imports only what it uses.
"""
