"""Benchmarks: each prints ratios to a baseline of the same run. `python -m benchmarks.all` runs every one in its short form."""
