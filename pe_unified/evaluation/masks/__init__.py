"""Evaluation of masks and marks from any source against reference masks."""
