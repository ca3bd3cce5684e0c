"""What the papers and exact fields predict."""
