"""A study whose trials take next to nothing: what is timed is everything around them."""

from typing import Any

TRIVIAL: dict[str, Any] = {
    "data": {"name": "rings", "n": 64},
    "network": {"name": "mlp", "width": 4, "depth": 1},
    "train": {"steps": 1, "batch_size": 8, "warmup_steps": 1},
    "sampler": {"solver": "heun2", "steps": 2},
    "evaluate": {"samples": 50, "metrics": ["fid", "sliced_wasserstein"]},
}
