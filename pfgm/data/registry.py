"""Data set name → reader."""

from __future__ import annotations

from pfgm.data.arrays import read_npz, read_vectors
from pfgm.data.digits import read_digits
from pfgm.data.items import Reader
from pfgm.data.toys import TOYS, toy_reader

READERS: dict[str, Reader] = {
    "digits": Reader(read_digits),
    "npz": Reader(read_npz, frozenset({"path"})),
    "vectors": Reader(read_vectors, frozenset({"path"})),
    **{name: Reader(toy_reader(name), frozenset({"n", "dim"})) for name in TOYS},
}
