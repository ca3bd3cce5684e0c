"""What is true: the schema of rows, records, and the storage that holds them. Imports nothing of ours.

A new column is one line of the schema; a new storage is one branch of `Place`.
"""
