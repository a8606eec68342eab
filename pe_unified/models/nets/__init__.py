"""Whole networks: decoders that read only the image, and networks for volumes."""
