"""Benchmarks: `make bench`, or `make bench ARGS="pages auth"` for some of them."""
