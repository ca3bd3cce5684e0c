"""What one parameter does: its levels, its curve, its tolerance interval, what is gained beside the default."""
