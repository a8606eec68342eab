"""Models with frozen parts."""

from collections.abc import Sequence
from typing import Any, Self

from mmengine.model import BaseModel


class PartlyFrozen(BaseModel):
    """Frozen parts get no gradients, and their batch norm and dropout stay in evaluation mode.

    This holds through every ``train()``. A subclass calls :meth:`freeze` when it is built.
    """

    #: Names of sub-modules.
    frozen: tuple[str, ...] = ()

    def freeze(self, frozen: str | Sequence[str]) -> None:
        """``frozen``: names of sub-modules, e.g. ``("backbone", "cls_head")``."""
        self.frozen = (frozen,) if isinstance(frozen, str) else tuple(frozen)
        self._hold_still()

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self._hold_still()
        return self

    def _hold_still(self) -> None:
        for name in self.frozen:
            module: Any = self.get_submodule(name)
            module.eval()
            module.requires_grad_(False)
