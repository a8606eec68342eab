"""Any timm network with four levels."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from pe_unified.errors import CheckpointError
from pe_unified.models.backbones.levels import (
    FeatureInfo,
    LevelsBackbone,
    check_frozen,
    refuse_other,
)
from pe_unified.registry import MODELS

_STRIDES = (4, 8, 16, 32)
#: Arguments of timm that name files; refused, because a config may come from a stranger.
FILES = {"checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"}
#: Given instead of a file: timm's own weights, which are downloaded.
_DOWNLOADED = "timm://"


@MODELS.register_module()
class PETimm(LevelsBackbone, BaseModule):
    """A timm network (https://github.com/huggingface/pytorch-image-models) by name.

    Args:
        model_name: such as ``"convnext_tiny"``; ``timm.list_models()`` has all of them.
        in_channels: channels of the input; timm spreads pretrained weights over them.
        frozen_stages, norm_eval: see
            :class:`~pe_unified.models.backbones.levels.LevelsBackbone`.
        pretrained: None, ``"timm://"`` for timm's own weights, or a file with them.
        options: further arguments of ``timm.create_model``, such as ``drop_path_rate``.

    Raises:
        ValueError: timm has no such network, or the network has no consecutive levels of strides 4,
            8, 16 and 32.
    """

    def __init__(
        self,
        model_name: str,
        in_channels: int = 3,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        pretrained: str | None = None,
        init_cfg: Any = None,
        **options: Any,
    ) -> None:
        import timm  # slow to import (1-2 s), and few configs need it

        super().__init__(init_cfg)
        refuse_other("out_indices", options.pop("out_indices", (0, 1, 2, 3)), (0, 1, 2, 3))
        require_known(model_name, options)
        self.frozen_stages, self.norm_eval = check_frozen(frozen_stages), norm_eval
        self.pretrained = pretrained
        self._creation = {"model_name": model_name, "in_chans": in_channels, **options}
        with torch.device("meta"):  # only to read its levels
            info = timm.create_model(**self._creation, features_only=True).feature_info
        given = info.reduction()
        if not set(_STRIDES) <= set(given):
            raise ValueError(f"{model_name}: levels of strides {given}; {_STRIDES} are needed")
        self._creation["out_indices"] = tuple(given.index(stride) for stride in _STRIDES)
        self.net = timm.create_model(**self._creation, features_only=True)
        if str(getattr(self.net, "output_fmt", "NCHW")).rpartition(".")[2] != "NCHW":
            raise ValueError(
                f"{model_name}: its channels come last; take PESwin or a convolutional net"
            )
        self.feature_info = FeatureInfo(tuple(self.net.feature_info.channels()), _STRIDES)
        self._groups, self._ends = self._grouped(model_name)
        self._freeze_stages()

    def _grouped(self, model_name: str) -> tuple[list[list[nn.Module]], list[nn.Module]]:
        """The modules of the stem and of each level, and the last module of each level."""
        ends = [name.replace(".", "_") for name in self.net.feature_info.module_name()]
        groups: list[list[nn.Module]] = [[], []]
        for name, module in _parts(self.net):
            groups[-1].append(module)
            if name in ends[len(groups) - 2 :]:
                groups.append([])
        if len(groups) != len(ends) + 2:
            raise ValueError(f"{model_name}: its levels do not run one after another")
        *stages, rest = groups
        last = [modules[-1] for modules in stages[1:]]
        stages[0], stages[1] = stages[1][:-1], stages[1][-1:]
        return [*stages[:-1], stages[-1] + rest], last

    def _stages(self) -> list[list[nn.Module]]:
        return self._groups

    def level_modules(self) -> list[tuple[nn.Module, ...]]:
        """See :class:`~pe_unified.models.protocols.Levels`."""
        return [(module,) for module in self._ends]

    def forward(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """The four levels, (n, channels, rows, cols); sides are padded to multiples of 32."""
        rows, cols = inputs.shape[-2:]
        levels = self.net(F.pad(inputs, (0, -cols % _STRIDES[-1], 0, -rows % _STRIDES[-1])))
        return tuple(
            level[..., : -(-rows // stride), : -(-cols // stride)]
            for level, stride in zip(levels, _STRIDES)
        )

    def init_weights(self) -> None:
        """Load the pretrained weights, once.

        Raises:
            CheckpointError: the weights are unavailable or do not fit.
        """
        if self.pretrained is None or self.is_init:
            self._is_init = True
            return
        take_weights(self.net, self.pretrained, {**self._creation, "features_only": True})
        self._is_init = True


def require_known(model_name: str, options: Mapping[str, Any]) -> None:
    """Reject unknown timm networks and options that name files.

    Raises:
        ValueError: the message names similar networks, or the option for a file.
    """
    import timm

    for name in sorted(FILES & options.keys()):
        raise ValueError(f"{name}: use pretrained to give the file of weights")
    if not timm.is_model(model_name):
        near = ", ".join(timm.list_models(f"*{model_name.split('_')[0]}*")[:5])
        raise ValueError(f"timm has no '{model_name}'{f'; near: {near}' if near else ''}")


def take_weights(net: nn.Module, pretrained: str, creation: Mapping[str, Any]) -> None:
    """Load pretrained weights into a timm network.

    Args:
        net: the result of ``timm.create_model(**creation)``.
        pretrained: ``"timm://"`` for timm's own weights, or a file with them.

    Raises:
        CheckpointError: the weights are unavailable or do not fit.
    """
    import timm

    from_file = not pretrained.startswith(_DOWNLOADED)
    source = {"pretrained_cfg_overlay": {"file": pretrained}} if from_file else {}
    name = creation["model_name"]
    try:
        filled = timm.create_model(**creation, pretrained=True, **source)
    except (OSError, RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"pretrained: {pretrained}: {name}'s weights cannot be loaded ({error}); give the file "
            "of timm's weights, or None to start from scratch"
        ) from error
    with torch.no_grad():
        net.load_state_dict(filled.state_dict())


def _parts(net: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules in the order of the forward pass, with every block on its own."""
    for name, module in net.named_children():
        if name == "blocks":
            for number, block in module.named_children():
                yield f"{name}_{number}", block
        else:
            yield name, module
