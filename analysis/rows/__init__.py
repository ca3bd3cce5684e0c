"""Read a study as a frame, and say what its rows, axes, metrics and units are.

Imports `study.rows` alone. A new file format is one file here.
"""
