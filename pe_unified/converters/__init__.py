"""Converts the public data sets into one layout on disk."""
