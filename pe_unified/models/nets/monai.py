"""Any 2D segmentation network of MONAI."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pe_unified.errors import CheckpointError, first_line
from pe_unified.models.nets.whole_net import WholeNet
from pe_unified.registry import MODELS

#: Arguments that this adapter sets itself.
_OWN = ("spatial_dims", "in_channels", "out_channels")
#: Layers for deep supervision, whose outputs are not used.
_IDLE = {"BasicUNetPlusPlus": ("final_conv_0_1", "final_conv_0_2", "final_conv_0_3")}


@MODELS.register_module()
class MONAINet(WholeNet):
    """A network of MONAI (https://github.com/Project-MONAI/MONAI), by its class name.

    It is built with ``out_channels`` classes, which form the map; the head's 1x1 convolution
    reduces them to one logit. Since the network's last layer is linear too, both together equal its
    last layer for one class.

    Args:
        arch: a class of ``monai.networks.nets`` that takes ``spatial_dims``, ``in_channels`` and
            ``out_channels``: ``"UNet"``, ``"BasicUNet"``, ``"BasicUNetPlusPlus"``,
            ``"AttentionUnet"``, ``"DynUNet"``, ``"FlexibleUNet"``, ``"SegResNet"``, ...
        out_channels: channels of the map.
        image_channels: channels of the image.
        pretrained: whether to start from the network's own weights, if it has any (FlexibleUNet);
            they are downloaded.
        in_channels, in_strides: the backbone's levels; unused.
        options: further arguments of the class.

    Raises:
        ValueError: MONAI has no such network, or it has no such argument.
    """

    def __init__(
        self,
        arch: str = "BasicUNet",
        out_channels: int = 16,
        image_channels: int = 3,
        pretrained: bool | None = None,
        in_channels: Sequence[int] = (),
        in_strides: Sequence[int] = (),
        init_cfg: dict | None = None,
        **options: Any,
    ) -> None:
        super().__init__(init_cfg)
        kind = _net(arch)
        if options.get("deep_supervision") or options.get("dsdepth", 1) > 1:
            raise ValueError("MONAINet has no side outputs; take UNetPlusPlusDecoder, or NFNPlus")
        if pretrained and "pretrained" not in inspect.signature(kind).parameters:
            raise ValueError(f"pretrained: MONAI has no weights of {arch}")
        given = {"spatial_dims": 2, "in_channels": image_channels, "out_channels": out_channels}
        self._creation = {**options, **given}
        self.pretrained = pretrained
        self.net = kind(**self._creation)
        for name in _IDLE.get(arch, ()):
            setattr(self.net, name, nn.Identity())
        self.out_channels = out_channels

    def maps(self, image: Tensor) -> list[Tensor]:
        found = self.net(image)
        return [found[0] if isinstance(found, list | tuple) else found]

    def init_weights(self) -> None:
        """Load the pretrained weights, once; MONAI initialises all others.

        Raises:
            CheckpointError: the weights are unavailable.
        """
        if self.pretrained and not self.is_init:
            try:
                filled = type(self.net)(**self._creation, pretrained=True)
            except (OSError, RuntimeError, ValueError) as error:
                raise CheckpointError(
                    f"pretrained: MONAI's weights of {type(self.net).__name__} cannot be loaded "
                    f"({first_line(error)}); take pretrained=None to start from scratch"
                ) from error
            with torch.no_grad():
                self.net.load_state_dict(filled.state_dict())
        self._is_init = True


def _net(arch: str) -> Any:
    """The class of that name; rejects anything else in MONAI."""
    from monai.networks import nets  # takes seconds, and few configs need it

    kind = getattr(nets, arch, None)
    if not (inspect.isclass(kind) and issubclass(kind, nn.Module)):
        raise ValueError(f"arch: MONAI has no net {arch}")
    missing = [name for name in _OWN if name not in inspect.signature(kind).parameters]
    if missing:
        raise ValueError(
            f"arch: {arch} takes no {', '.join(missing)}, so it is not a 2D segmentation network"
        )
    return kind
