"""Masks and marks of scans, whoever made them, against reference masks."""
