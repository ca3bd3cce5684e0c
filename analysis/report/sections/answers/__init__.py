"""Sections that answer the question of a study; they may import those of `measured`."""
