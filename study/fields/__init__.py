"""Where a field comes from: the store of trained fields, a checkpoint, an exact field."""
