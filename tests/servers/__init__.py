"""The real parts (authorization servers, OpenBao, databases, Airflow) that tests, demo and benchmarks run against.

Not part of the shipped package.
"""
