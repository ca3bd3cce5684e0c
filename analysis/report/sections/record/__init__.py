"""Sections that say what was run, how, and what became of each cell."""
