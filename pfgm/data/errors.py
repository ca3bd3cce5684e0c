"""What is said of a data set that cannot be used.

The key is the one of the study file that it is about, `data.path`, and the text ends with what to do.
"""

from pfgm.mistakes import Mistake


class DataError(Mistake):
    """A data set that cannot be used as it is; the message says why and what to do."""
