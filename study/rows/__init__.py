"""What is true: the schema of rows, records, the facts of their columns, and the storage that holds them.

Of ours it imports the list of measured columns alone (`pfgm.metrics.columns`, without torch). A new key is one line of the
schema; a new storage is one branch of `Place`.
"""
