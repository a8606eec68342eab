"""Painted studies in the file layouts of the public sets; `make_phantom` is the command."""
