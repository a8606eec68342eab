"""UNet: segmentation only, with its own encoder."""

preset = "seed"  # 32 channels at full size; "paper" has 64
pretrained = None
frozen_stages = -1

model = dict(
    type="PEUnified",
    data_preprocessor=dict(type="PEDataPreprocessor", channels_last=True),
    backbone=dict(
        type="UNetEncoder", preset=preset, pretrained=pretrained, frozen_stages=frozen_stages
    ),
    seg_head=dict(
        type="PESegHead",
        decoder=dict(
            type="UNetDecoder",
            channels=None,  # per level; None: as wide as the level
            skip_channels=None,
            out_stride=1,
            upsample="bilinear",
        ),
        losses=[dict(type="PooledDiceLoss"), dict(type="PixelCrossEntropyLoss")],
    ),
)
