"""Readers of data, one source a file; imports `config`, `data.items` and `data.pictures`. Nothing in a data file is ever run.

A new reader is one function `DataConfig` → `Items` with its card `Reader`, and one line in `pfgm.registry`.
"""
