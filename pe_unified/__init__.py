"""pe_unified: one backbone, three answers about pulmonary embolism in CT.

Importing the package is cheap: it registers the fallback for mmcv's compiled operators
with Python's import system (see :mod:`pe_unified.ops`) and loads nothing else.
"""

from pe_unified.ops import install_mmcv_fallback
from pe_unified.version import __version__

install_mmcv_fallback()

__all__ = ["__version__"]
