"""Data set name → reader."""

from __future__ import annotations

from pfgm.data.items import Reader
from pfgm.data.readers.arrays import read_npz, read_vectors
from pfgm.data.readers.cifar import read_cifar10
from pfgm.data.readers.digits import read_digits
from pfgm.data.readers.idx import read_fashion_mnist
from pfgm.data.readers.images import read_images
from pfgm.data.readers.parquet import read_parquet
from pfgm.data.readers.toys import TOYS, toy_reader

PICTURES = frozenset({"path", "size", "crop", "channels"})
ARRAYS = frozenset({"path", "key", "standardize"})

READERS: dict[str, Reader] = {
    "digits": Reader(read_digits),
    "fashion_mnist": Reader(read_fashion_mnist, frozenset({"path", "download"})),
    "cifar10": Reader(read_cifar10, frozenset({"path", "download"})),
    "images": Reader(read_images, PICTURES),
    "parquet": Reader(read_parquet, PICTURES | {"column"}),
    "npz": Reader(read_npz, ARRAYS),
    "vectors": Reader(read_vectors, ARRAYS),
    **{name: Reader(toy_reader(name), frozenset({"n", "dim"})) for name in TOYS},
}
