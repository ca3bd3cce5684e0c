"""Checkpoints of the EDM and PFGM++ code: files to stand-ins, stand-ins to tensors by name, those to a field.

Nothing of their code is run, and nothing of it is here.
"""
