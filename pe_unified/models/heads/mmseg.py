"""The UNet decoder as an mmseg decode head, for use in a stock ``EncoderDecoder``."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor

from pe_unified.models.decoders.unet import UNetDecoder
from pe_unified.registry import MODELS


@MODELS.register_module()
class PEUNetDecodeHead(BaseDecodeHead):
    """Two classes from one logit, with the tensor names of :class:`PESegHead`.

    mmseg passes only the features to a decode head, so the decoder cannot use ``detail_channels``
    here.

    Args:
        in_channels, in_strides: the backbone's levels, finest first.
        decoder: further arguments of :class:`~pe_unified.models.decoders.unet.UNetDecoder`.
        threshold: probability above which a pixel counts as embolus.
        loss_decode: mmseg losses on one logit; scope-qualified types.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[int] = (4, 8, 16, 32),
        decoder: Mapping[str, Any] | None = None,
        threshold: float = 0.5,
        loss_decode: Mapping[str, Any] | Sequence[Mapping[str, Any]] = dict(
            type="mmseg.CrossEntropyLoss", use_sigmoid=True, avg_non_ignore=True
        ),
        init_cfg: dict | None = None,
    ) -> None:
        unet = UNetDecoder(in_channels, in_strides, **(decoder or {}))
        if unet.detail is not None:
            raise ValueError(
                "PEUNetDecodeHead: detail_channels needs the image, which mmseg does not hand to "
                "decode heads; set it to 0"
            )
        losses = [loss_decode] if isinstance(loss_decode, Mapping) else loss_decode
        super().__init__(
            in_channels=list(in_channels),
            channels=unet.out_channels,
            num_classes=2,
            out_channels=1,
            threshold=threshold,
            dropout_ratio=0,
            in_index=list(range(len(in_channels))),
            input_transform="multiple_select",
            loss_decode=[dict(loss) for loss in losses],
            init_cfg=init_cfg or dict(type="Normal", std=0.01, override=dict(name="conv_seg")),
        )
        self.decoder = unet

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Logits (n, 1, rows, cols) at the decoder's ``out_stride``."""
        return self.cls_seg(self.decoder(self._transform_inputs(inputs)))
