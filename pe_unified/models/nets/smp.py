"""Any network of segmentation_models_pytorch."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pe_unified.checkpoints import load_checkpoint_safely, tensors_of
from pe_unified.errors import CheckpointError, first_line
from pe_unified.models.backbones.timm import FILES, require_known
from pe_unified.models.nets.whole_net import WholeNet
from pe_unified.registry import MODELS

#: Prefix for the library's own weights, which are downloaded.
_DOWNLOADED = "smp://"
#: Prefix for an encoder from timm.
_OF_TIMM = "tu-"
#: Arguments of the library that are not accepted here, and what to use instead.
_ELSEWHERE = {
    "encoder_name": "say encoder",
    "encoder_weights": f"say pretrained='{_DOWNLOADED}imagenet'",
    "classes": "the head has one logit",
    "activation": "the head has the sigmoid",
    "aux_params": "PEClsHead classifies",
    **dict.fromkeys(FILES, "give the file of the encoder's weights as pretrained"),
}


@MODELS.register_module()
class SMPNet(WholeNet):
    """A network of segmentation_models_pytorch (https://github.com/qubvel-org), by name.

    Its segmentation head is left out: the map is the output of its decoder, at the decoder's stride
    (1 for Unet, 4 for FPN), and :class:`~pe_unified.models.heads.seg.PESegHead` computes the logit.
    Rows and columns must be multiples of the coarsest stride, 32; the data preprocessor pads them.

    Args:
        arch: ``"Unet"``, ``"UnetPlusPlus"``, ``"MAnet"``, ``"Linknet"``, ``"FPN"``,
            ``"PSPNet"``, ``"DeepLabV3"``, ``"DeepLabV3Plus"``, ``"PAN"``, ``"UPerNet"``,
            ``"Segformer"`` or ``"DPT"``.
        encoder: such as ``"resnet34"``, or ``"tu-"`` and a timm name.
        image_channels: channels of the image; the library spreads pretrained weights over them.
        pretrained: None, ``"smp://imagenet"`` (or another name of weights that the library has for
            the encoder), or a file with the encoder's weights.
        in_channels, in_strides: the backbone's levels; unused.
        options: further arguments of the network, such as ``decoder_channels``.

    Raises:
        ValueError: the library has no such network, encoder or argument.
    """

    def __init__(
        self,
        arch: str = "Unet",
        encoder: str = "resnet34",
        image_channels: int = 3,
        pretrained: str | None = None,
        in_channels: Sequence[int] = (),
        in_strides: Sequence[int] = (),
        init_cfg: dict | None = None,
        **options: Any,
    ) -> None:
        super().__init__(init_cfg)
        _require_known(arch, encoder, options)
        self.pretrained = pretrained
        self._creation = {
            "arch": arch,
            "encoder_name": encoder,
            "in_channels": image_channels,
            **options,
        }
        self.net = _create(None, self._creation)
        first = next(m for m in self.net.segmentation_head.modules() if isinstance(m, nn.Conv2d))
        self.out_channels = first.in_channels
        self.net.segmentation_head = nn.Identity()

    def maps(self, image: Tensor) -> list[Tensor]:
        return [self.net(image)]

    def init_weights(self) -> None:
        """Load the encoder's pretrained weights, once; the library initialises all others.

        Raises:
            CheckpointError: the weights are unavailable or do not fit.
        """
        if self.pretrained and not self.is_init:
            self._take_weights(self.pretrained)
        self._is_init = True

    def _take_weights(self, source: str) -> None:
        if not source.startswith(_DOWNLOADED):
            tensors = dict(tensors_of(load_checkpoint_safely(source)))
        try:
            if source.startswith(_DOWNLOADED):
                filled = _create(source.removeprefix(_DOWNLOADED), self._creation)
                tensors = filled.encoder.state_dict()
            with torch.no_grad():
                self.net.encoder.load_state_dict(tensors)
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            name = self._creation["encoder_name"]
            raise CheckpointError(
                f"pretrained: {source}: {name}'s weights cannot be loaded ({first_line(error)}); "
                "give the file of the encoder's weights, or None to start from scratch"
            ) from error


def _create(weights: str | None, creation: Mapping[str, Any]) -> nn.Module:
    import segmentation_models_pytorch as smp  # takes seconds, and few configs need it

    return smp.create_model(**creation, encoder_weights=weights)


def _require_known(arch: str, encoder: str, options: Mapping[str, Any]) -> None:
    """Accept only networks and encoders that the library builds without files or internet."""
    import segmentation_models_pytorch as smp

    for name in sorted(_ELSEWHERE.keys() & options.keys()):
        raise ValueError(f"SMPNet takes no {name}: {_ELSEWHERE[name]}")
    known = [each.__name__ for each in smp.MODEL_ARCHITECTURES_MAPPING.values()]
    if arch not in known:
        raise ValueError(f"arch: segmentation_models_pytorch has no {arch}; it has {known}")
    if encoder.startswith(_OF_TIMM):
        require_known(encoder.removeprefix(_OF_TIMM), options)
    elif encoder not in smp.encoders.encoders:
        raise ValueError(
            f"encoder: segmentation_models_pytorch has no {encoder}; smp.encoders.get_encoder_names"
            f"() lists them, and '{_OF_TIMM}NAME' takes one of timm"
        )
