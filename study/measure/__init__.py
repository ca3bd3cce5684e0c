"""One trial, from its hand-out to its rows, in a worker or in this process; imports `plan` and what is below, no ray.

What is new in a row is measured here and declared in `study.rows.records`.
"""
