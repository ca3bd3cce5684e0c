"""A mistake in what was asked: the key at fault, and what is wrong with it, apart.

Whoever shows it to the user reads the two as they are, and never cuts the text to find the key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


class Mistake(ValueError):
    """A value that is refused, as one line: ``network.depth: what is wrong and what to do``.

    Args:
        key: the key at fault, with dots between the sections of search.yaml, or in its parts.
        text: what is wrong and what to do.
    """

    def __init__(self, key: str | tuple[str, ...], text: str) -> None:
        super().__init__(key, text)
        self.path, self.text = key if isinstance(key, tuple) else tuple(key.split(".")), text

    def __str__(self) -> str:
        return f"{'.'.join(self.path)}: {self.text}"


def raised(found: ErrorDetails) -> ValueError:
    """Return the error that pydantic met in a validator, or its own words as an error."""
    error = found.get("ctx", {}).get("error")
    return error if isinstance(error, ValueError) else ValueError(found["msg"])
