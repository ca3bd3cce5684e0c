"""Turn a frame into a frame of numbers.

Imports `rows` alone and draws nothing. A new statistic is one file here and one line in the stub of `analysis`.
"""
