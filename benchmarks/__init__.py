"""Benchmarks: each module has `run(argv)` and is started as `python -m benchmarks.NAME`."""
