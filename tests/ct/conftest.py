"""The fixtures of known_volume, for all tests of reading."""

from known_volume import affine, truth

__all__ = ["affine", "truth"]
