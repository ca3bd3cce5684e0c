"""Feature networks: what the distances see of a sample."""
