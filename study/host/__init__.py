"""This machine and this driver: slots, memory, signals, the driver's lease, live progress."""
