"""What rows say together of one parameter: the rules that the design `settle` decides by, and that the report judges by.

Plain numbers and arrays go in, verdicts and a list of work come out. Nothing here knows of files, trials or frames. It imports
numpy and scipy alone.
"""
