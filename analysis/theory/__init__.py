"""Compute what papers and exact fields predict.

Imports `rows` and `statistics`, and draws nothing. A new prediction is one file.
"""
