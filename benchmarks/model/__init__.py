"""Benchmarks of the model: training, sampling, the field, reading of data."""
