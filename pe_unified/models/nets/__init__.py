"""Whole nets: decoders that read the image alone, on a backbone without levels; nets of volumes."""
