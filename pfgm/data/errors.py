"""What is said of a data set that cannot be used.

A message starts with the key of the study file that it is about, `data.path: …`, and ends with what to do.
"""


class DataError(ValueError):
    """A data set that cannot be used as it is; the message says why and what to do."""
