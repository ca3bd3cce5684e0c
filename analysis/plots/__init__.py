"""Draw a frame on Axes.

Imports every room of numbers; beside `report`, no other room imports matplotlib. A new plot is one function.
"""
