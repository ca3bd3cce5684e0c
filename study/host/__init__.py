"""This machine and this driver: slots, memory, signals, the driver's lease, live progress; imports `plan`, `config`, `rows`.

A new resource of the machine is one file.
"""
