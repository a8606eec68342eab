"""Layer-wise learning rates: the further a layer is from the heads, the lower its rate."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIMIZERS
from torch import nn

from pe_unified.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS

#: Position tables, which weight decay would pull towards "no position".
_POSITIONS = ("relative_position_bias_table", "absolute_pos_embed")


@dataclass(frozen=True)
class LayerRates:
    """The settings in ``paramwise_cfg``.

    Fields:
        layer_decay: factor from a layer to the one below it; 1 gives every layer the same rate.
        head_multipliers: name of a sub-module beside the backbone -> factor on its rate.
        no_decay: further parameters without weight decay, by parts of their names.
    """

    layer_decay: float = 1.0
    head_multipliers: Mapping[str, float] = field(default_factory=dict)
    no_decay: Sequence[str] = ()


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayConstructor:
    """Parameter groups by depth, some of them without weight decay.

    A backbone layer learns at ``lr * layer_decay ** (layers between it and the heads)``
    (https://arxiv.org/abs/2003.10555, as in fine-tuning ELECTRA and BEiT). Layers are the
    backbone's blocks; the stem is the lowest (``get_layer_depth`` of the backbone). Norms,
    biases and position tables are not decayed. Frozen parameters are left out.

    In a config::

        optim_wrapper = dict(
            constructor="LayerDecayConstructor",
            optimizer=dict(type="AdamW", lr=1e-4, weight_decay=0.05),
            paramwise_cfg=dict(layer_decay=0.9, head_multipliers=dict(det_head=2.0)),
        )

    Args:
        optim_wrapper_cfg: has an ``optimizer`` whose ``lr`` the layers' rates are derived from.
        paramwise_cfg: the fields of :class:`LayerRates`.
    """

    def __init__(
        self, optim_wrapper_cfg: dict[str, Any], paramwise_cfg: Mapping[str, Any] | None = None
    ) -> None:
        self.rates = LayerRates(**(paramwise_cfg or {}))
        self.wrapper_cfg = {"type": "OptimWrapper", **optim_wrapper_cfg}
        self.optimizer_cfg = dict(self.wrapper_cfg.pop("optimizer"))

    def __call__(self, model: nn.Module) -> OptimWrapper:
        if is_model_wrapper(model):
            model = model.module
        options = dict(self.optimizer_cfg)
        options["params"] = self.groups(model, options["lr"], options.get("weight_decay", 0.0))
        optimizer = OPTIMIZERS.build(options)
        return OPTIM_WRAPPERS.build(self.wrapper_cfg, default_args={"optimizer": optimizer})

    def groups(self, model: nn.Module, rate: float, weight_decay: float) -> list[dict[str, Any]]:
        """Parameter groups of an optimiser, one per learning rate and weight decay.

        Args:
            model: has a ``backbone`` with ``get_layer_depth``; the rest are heads.
            rate: learning rate of the heads.
            weight_decay: of the weights that are decayed.

        Returns:
            Dictionaries with ``params``, ``lr``, ``weight_decay`` and ``name``.

        Raises:
            KeyError: ``head_multipliers`` names a part that the model lacks.
            ValueError: ``layer_decay`` is not 1, but the model has no backbone with layers.
        """
        absent = sorted(
            set(self.rates.head_multipliers) - {name for name, _ in model.named_children()}
        )
        if absent:
            raise KeyError(f"head_multipliers: the model has no {', '.join(absent)}")
        layered = any(name.startswith("backbone.") for name, _ in model.named_parameters())
        if self.rates.layer_decay != 1 and not layered:
            raise ValueError(
                f"layer_decay={self.rates.layer_decay} lowers the rates of backbone layers, but "
                f"this {type(model).__name__} has none; leave it out"
            )
        spared = (*_POSITIONS, *self.rates.no_decay)
        collected: dict[tuple[str, bool], list[nn.Parameter]] = defaultdict(list)
        rates = {}
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            part, factor = self._part_and_factor(model, name)
            decayed = parameter.ndim > 1 and not any(key in name for key in spared)
            collected[part, decayed].append(parameter)
            rates[part] = rate * factor
        for part, value in rates.items():
            print_log(f"learning rate of {part}: {value:.3g}", logger="current")
        return [
            {
                "params": parameters,
                "lr": rates[part],
                "weight_decay": weight_decay if decayed else 0.0,
                "name": f"{part}{'' if decayed else ', not decayed'}",
            }
            for (part, decayed), parameters in collected.items()
        ]

    def _part_and_factor(self, model: nn.Module, name: str) -> tuple[str, float]:
        part = name.partition(".")[0]
        if part != "backbone":
            return part, self.rates.head_multipliers.get(part, 1.0)
        layer, layers = model.backbone.get_layer_depth(name, "backbone.")
        factor = self.rates.layer_decay ** (layers - 1 - layer)
        return f"backbone layer {layer}", factor * self.rates.head_multipliers.get(part, 1.0)
