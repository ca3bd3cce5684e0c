"""What a study will cost, measured on this machine before it runs; imports `plan`, `measure` and what is below.

A new cost is measured once, in `study.cost.calibration`, and added up in `study.cost.estimate`.
"""
