"""Say what one parameter does: its levels, ratios, curve, rating and gains.

Imports `rows` and `statistics`, and draws nothing. A new question about one parameter is one file.
"""
