"""What may change between two starts of one study: the table, and the check of a study file against what is stored."""

from __future__ import annotations

from collections.abc import Mapping

FROZEN, GROWING, FREE = "frozen", "growing", "free"
KEY_RULES: tuple[tuple[str, str], ...] = (
    ("design.trials", GROWING),
    ("design.sampler_points", GROWING),
    ("design.arm_seeds", GROWING),
    ("design.budget", GROWING),
    ("seeds.train", GROWING),
    ("seeds.sample", GROWING),
    ("evaluate.metrics", GROWING),
    ("evaluate.at_steps", GROWING),
    ("perturb.noise", GROWING),
    ("perturb.weight_bits", GROWING),
    ("perturb.weight_noise", GROWING),
    ("storage", FREE),
    ("plugins", FREE),
    ("trackers", FREE),
    ("allow_extreme", FREE),
    ("data.path", FREE),
    ("field.checkpoint", FREE),
    ("data.download", FREE),
    ("resources", FREE),
    ("limits", FREE),
    ("retries", FREE),
    ("analysis", FREE),
    ("", FROZEN),
)
"""Rules by longest matching prefix: *frozen* keys would change the meaning of finished rows, *growing* ones add what is
missing, *free* ones change nothing that is measured."""


def rule_of(key: str) -> str:
    """Frozen, growing or free: the rule of a dotted key."""
    matches = [(prefix, rule) for prefix, rule in KEY_RULES if prefix in ("", key) or key.startswith(prefix + ".")]
    return max(matches, key=lambda m: len(m[0]))[1]


def compare(old: object, new: object, key: str = "") -> list[tuple[str, object, object]]:
    """Differing leaves of two nested mappings: (dotted key, old, new)."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = sorted({*old, *new})
        return [d for k in keys for d in compare(old.get(k), new.get(k), f"{key}.{k}" if key else k)]
    return [] if old == new else [(key, old, new)]
