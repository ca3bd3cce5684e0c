"""Benchmarks of a study: scheduling, storage, kills."""
