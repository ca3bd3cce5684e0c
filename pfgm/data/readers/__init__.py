"""One source of data a file; nothing in a data file is ever run."""
