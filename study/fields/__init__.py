"""Where a field comes from: the store of trained fields, a checkpoint, an exact field; imports `rows` and pfgm.

A new source is one key of `FieldConfig` and one branch where it is loaded.
"""
