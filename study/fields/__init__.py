"""Where a field comes from: the store of trained fields, a checkpoint, an exact field; imports `config` and below.

A new source is one key of `FieldConfig` and one branch where it is loaded.
"""
