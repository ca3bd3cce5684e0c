"""One design a file: which points of the declared space are measured."""
