"""Commands for contributors: what `make` calls to set up, to show and to generate.

`environments`, `setup_env` and `update_constraints` run before any environment exists, so they use the standard library
only.
"""
