"""Decoders: from the levels of a backbone to one map."""
