"""The rig: starts the real parts (servers, Airflow) that the tests, the demo and the benchmarks run against.

Not part of the shipped package. Modules here that run before the environments exist (`environments`,
`setup_env`, `update_constraints`) use the standard library only.
"""
