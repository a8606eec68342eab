"""One exam with whatever is known about it."""

from mmengine.structures import BaseDataElement


class PEExamSample(BaseDataElement):
    """Labels and predictions of an exam and of its steps; a step is a slice, or a chunk of slices.

    Fields:
        gt_exam: float32 (10,), 0, 1 or NaN where unknown, in the order of
            :data:`~pe_unified.ct.exam_labels.EXAM_TARGETS`.
        gt_steps: float32 (steps,), 0, 1 or NaN: whether the step shows embolism.
        pred_exam: float32 (10,), probabilities; NaN for what the model does not answer.
        pred_steps: float32 (steps,), probability of embolism.
        attention: float32 (10, steps), what each answer rests on; every row adds up to 1.

    Meta information:
        patient_id, group, study_uid;
        step_ids: of every step, the SOP instance UID of its (middle) slice;
        z_mm: float (steps,), position of every step, NaN where unknown;
        ori_shape, crop_box, img_shape, scale_factor: see :class:`PEDataSample`; not of features.
    """
