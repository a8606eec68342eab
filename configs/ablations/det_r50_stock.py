"""Detection: mmdet's own settings of Faster R-CNN, instead of those for small lesions.

pe-unified train ablations/det_r50_stock --data-root data/pe

Time: more than the 23 h of pe_det_r50 on 2 CPU cores, with 1,000 proposals a slice; not measured.
Result: not measured.
"""

_base_ = "../pe_det_r50.py"

model = dict(
    det_head=dict(
        neck=dict(out_channels=256, num_outs=5),
        rpn_head=dict(anchor_generator=dict(scales=[8])),
        roi_head=dict(
            bbox_roi_extractor=dict(finest_scale=56), bbox_head=dict(fc_out_channels=1024)
        ),
        train_cfg=dict(
            rpn=dict(assigner=dict(pos_iou_thr=0.7, min_pos_iou=0.3), sampler=dict(num=256)),
            rpn_proposal=dict(nms_pre=2000, max_per_img=1000),
            rcnn=dict(sampler=dict(num=512)),
        ),
        test_cfg=dict(
            rpn=dict(nms_pre=1000, max_per_img=1000), rcnn=dict(score_thr=0.05, max_per_img=100)
        ),
    ),
)
