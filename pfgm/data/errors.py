"""What is said of a data set that cannot be used.

The key is the one of the study file that it is about, `data.path`, and the text ends with what to do.
"""

from pfgm.mistakes import Mistake


class DataError(Mistake):
    """A data set that cannot be used as it is; the message says why and what to do."""


class Unlike(DataError):
    """Pictures that differ in size or in channels, and nothing else is wrong.

    Args:
        key, text: as of `Mistake`.
        cure: a key of ``data`` that makes them alike, with its usual value.
    """

    def __init__(self, key: str, text: str, cure: dict[str, object]) -> None:
        super().__init__(key, text)
        self.args, self.cure = (key, text, cure), cure  # whole in another process too
