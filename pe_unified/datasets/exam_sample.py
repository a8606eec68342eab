"""The sample of one exam."""

from mmengine.structures import BaseDataElement


class PEExamSample(BaseDataElement):
    """Labels and predictions of an exam and of its steps; a step is a slice, or a chunk of slices.

    Fields:
        gt_exam: float32 (10,), 0, 1 or NaN where unknown, in the order of
            :data:`~pe_unified.ct.exam_labels.EXAM_TARGETS`.
        gt_steps: float32 (steps,), 0, 1 or NaN: whether the step shows embolism.
        pred_exam: float32 (10,), probabilities; NaN for labels the model does not predict.
        pred_steps: float32 (steps,), probability of embolism.
        attention: float32 (10, steps), share of each step in each label; rows sum to 1.

    Meta information:
        patient_id, group, study_uid;
        step_ids: SOP instance UID of the (middle) slice of every step;
        z_mm: float (steps,), position of every step, NaN where unknown;
        ori_shape, crop_box, img_shape, scale_factor: see :class:`PEDataSample`; not for features.
    """
