"""Readers of the public sets, one module each, and their shared parts."""
