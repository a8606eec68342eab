"""RV/LV ratio from only the slices through the heart.

pe-unified train exam/winner_heart --data-root data/pe --cfg-options features=FOLDER

FOLDER is written by pe-unified extract exam/winner_heart_features.

Time: not measured.
Result: unknown.
"""

_base_ = "winner_gru.py"

model = dict(
    step_head=None,
    exam_head=dict(labels=("rv_lv_ratio_gte_1", "rv_lv_ratio_lt_1")),
)
val_evaluator = [dict(type="ExamMetric", resamples=0)]
test_evaluator = [dict(type="ExamMetric")]
