"""What a study will cost, measured on this machine before it runs."""
