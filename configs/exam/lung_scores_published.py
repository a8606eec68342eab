"""A lung score for every slice, from lung_slices_published.py.

pe-unified extract exam/lung_scores_published --data-root data/pe \
    --reuse encoder.backbone:backbone=CHECKPOINT encoder.cls_head:cls_head=CHECKPOINT

Time: not measured.
Result: unknown.
"""

_base_ = "lung_scores.py"

model = dict(
    encoder=dict(
        backbone=dict(
            _delete_=True,
            type="PETimm",
            model_name="tf_efficientnetv2_s",
            pretrained=None,
            frozen_stages=-1,
        ),
    ),
)
