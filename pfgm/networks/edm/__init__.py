"""The U-Nets of EDM, layer for layer: the block that all forms share, and the network."""
