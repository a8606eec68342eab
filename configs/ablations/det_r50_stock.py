"""Detection: mmdet's own settings of Faster R-CNN, against those for small lesions.

tools/train.py configs/ablations/det_r50_stock.py --data-root data/pe

Time: more than the 23 h of pe_det_r50 on 2 CPU cores, for 1,000 proposals a slice; not measured.
Result: not measured.
"""

_base_ = "../pe_det_r50.py"

model = dict(
    det_head=dict(
        extra_levels=1,
        channels=256,
        anchor_scales=(8,),
        rpn_positive_iou=0.7,
        rpn_least_iou=0.3,
        rpn_samples=256,
        proposals_before_nms=1000,
        proposals_train=1000,
        proposals_test=1000,
        roi_samples=512,
        roi_finest_scale=56,
        fc_channels=1024,
        score_threshold=0.05,
        max_detections=100,
    ),
)
