"""Any 2D segmentation net of MONAI."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pe_unified.checkpoints import CheckpointError
from pe_unified.errors import first_line
from pe_unified.models.nets.whole_net import WholeNet
from pe_unified.registry import MODELS

#: What this adapter says itself.
_OWN = ("spatial_dims", "in_channels", "out_channels")
#: Layers that a net has for the outputs of deep supervision, and computes in vain without.
_IDLE = {"BasicUNetPlusPlus": ("final_conv_0_1", "final_conv_0_2", "final_conv_0_3")}


@MODELS.register_module()
class MONAINet(WholeNet):
    """A net of MONAI (https://github.com/Project-MONAI/MONAI), by the name of its class.

    It is asked for ``out_channels`` classes, which are the map; the head's 1x1 convolution makes
    one logit of them. With the net's last layer, linear as well, that is the layer which it has
    for one class.

    Args:
        arch: a class of ``monai.networks.nets`` that takes ``spatial_dims``, ``in_channels`` and
            ``out_channels``: ``"UNet"``, ``"BasicUNet"``, ``"BasicUNetPlusPlus"``,
            ``"AttentionUnet"``, ``"DynUNet"``, ``"FlexibleUNet"``, ``"SegResNet"``, ...
        out_channels: of the map.
        image_channels: channels of the image.
        pretrained: whether a net that has weights of its own (FlexibleUNet) starts from them;
            they are downloaded.
        in_channels, in_strides: the backbone's levels; unused.
        options: further arguments of the class.

    Raises:
        ValueError: MONAI has no such net, or it takes no such argument.
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
        if options.get("deep_supervision"):
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
        return [found[-1] if isinstance(found, list | tuple) else found]

    def init_weights(self) -> None:
        """Take the pretrained weights, once; MONAI has set all others.

        Raises:
            CheckpointError: they cannot be had.
        """
        if self.pretrained and not self.is_init:
            try:
                filled = type(self.net)(**self._creation, pretrained=True)
            except (OSError, RuntimeError, ValueError) as error:
                raise CheckpointError(
                    f"pretrained: MONAI's weights of {type(self.net).__name__} cannot be had "
                    f"({first_line(error)}); take pretrained=None to start from scratch"
                ) from error
            with torch.no_grad():
                self.net.load_state_dict(filled.state_dict())
        self._is_init = True


def _net(arch: str) -> Any:
    """The class of that name; nothing else of MONAI can be named."""
    from monai.networks import nets  # seconds, for nets that few configs ask for

    kind = getattr(nets, arch, None)
    if not (inspect.isclass(kind) and issubclass(kind, nn.Module)):
        raise ValueError(f"arch: MONAI has no net {arch}")
    missing = [name for name in _OWN if name not in inspect.signature(kind).parameters]
    if missing:
        raise ValueError(f"arch: {arch} takes no {', '.join(missing)}, so it is no 2D net of masks")
    return kind
