"""Augmentation: none, in a short run from scratch.

pe-unified train ablations/cls_seg_r50_plain --data-root data/pe --minutes 60

Time: as given by --minutes.
Result: not measured.
"""

_base_ = "../short/cls_seg_r50.py"

train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type="LoadCTSlice"),
            dict(type="LoadPELabels"),
            dict(type="CropToLungs", margin_mm=10.0),
            dict(type="ResizeSlice"),
            dict(type="CTWindows"),
            dict(type="PackPEInputs"),
        ]
    )
)
