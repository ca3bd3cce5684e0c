"""Feature networks: what the distances see of a sample; imports `config`, `field`, `memory` and `networks`.

A new one is one file with a network (n, d) → (n, k) and its card `FeatureKind`, and one line in `pfgm.registry`.
"""
