"""Makes ``mmcv._ext`` importable where mmcv was installed without its compiled operators."""

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_EXTENSION = "mmcv._ext"
_FALLBACK = "pe_unified.ops.mmcv_ext"


class MmcvExtFallback(MetaPathFinder):
    """Supplies ``mmcv._ext`` from :mod:`pe_unified.ops.mmcv_ext`.

    It is last in ``sys.meta_path``, so Python asks it only if no compiled extension was found: a
    compiled mmcv always takes precedence.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _EXTENSION:
            return None
        fallback = importlib.util.find_spec(_FALLBACK)
        assert fallback is not None and fallback.origin is not None
        return importlib.util.spec_from_file_location(fullname, fallback.origin)


def install_mmcv_fallback() -> None:
    """Append the finder to ``sys.meta_path`` once."""
    if not any(isinstance(finder, MmcvExtFallback) for finder in sys.meta_path):
        sys.meta_path.append(MmcvExtFallback())
