"""Mixed precision in training."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmengine.optim import OptimWrapper
from torch import nn

from pe_unified.models.precision import autocast
from pe_unified.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class PrecisionOptimWrapper(OptimWrapper):
    """mmengine's wrapper with a ``precision`` of ``fp32`` or ``bf16``.

    mmengine's own mixed-precision wrapper refuses to run on a CPU, where bfloat16 is
    about three times as fast as float32 if the processor has it.
    """

    def __init__(self, precision: str = "fp32", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        autocast(precision)
        self.precision = precision

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        with super().optim_context(model), autocast(self.precision):
            yield
