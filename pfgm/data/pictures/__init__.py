"""Many pictures on disk: decoded once, kept, downloaded with a checksum."""
