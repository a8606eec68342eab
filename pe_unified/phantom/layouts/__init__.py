"""Writes synthetic studies in the file layouts of the public sets."""
