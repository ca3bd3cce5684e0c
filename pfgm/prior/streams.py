"""Streams of random numbers by seed and role, equal on every machine."""

import hashlib

import numpy as np


def stream(seed: int, role: str) -> np.random.Generator:
    """A counter-based stream that depends on the seed and the role's name only."""
    role_key = int.from_bytes(hashlib.sha256(role.encode()).digest()[:8], "little")
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, role_key])))
