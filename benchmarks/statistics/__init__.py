"""Benchmarks of the statistics: error rates, coverage, reading and reporting of many rows."""
