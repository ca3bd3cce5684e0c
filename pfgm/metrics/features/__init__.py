"""Feature networks: what the distances see of a sample; imports `config`, `field`, `memory` and `networks`.

A new one is one class (n, d) → (n, k), and one branch in `pfgm.metrics.features.networks`.
"""
