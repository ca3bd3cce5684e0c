"""Many pictures on disk: decoded once, kept, downloaded with a checksum; imports `config` and `data.errors`.

A new way to keep or fetch pictures is one file.
"""
