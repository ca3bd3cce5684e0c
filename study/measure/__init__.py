"""One trial, from its hand-out to its rows. It runs in a worker, or in this process."""
