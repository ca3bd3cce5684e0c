"""Sections that show what was measured, along each parameter."""
