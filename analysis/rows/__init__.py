"""A study as a frame: its rows, axes, units; other formats. Imports `study.rows` alone."""
