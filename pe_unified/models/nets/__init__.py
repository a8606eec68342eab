"""Whole networks, from the image to maps."""
