"""What is true: the schema of rows, records, and the storage that holds them. Imports nothing of ours."""
