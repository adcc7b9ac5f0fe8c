"""Measured claims, one file each: `python -m benchmark.CLAIM [--json OUT]`; `make bench` runs them all."""
