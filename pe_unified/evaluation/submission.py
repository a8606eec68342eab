"""Predictions in the format of the RSNA-STR PE challenge, ``submission.csv``."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pe_unified.csv_files import csv_text
from pe_unified.ct.exam_labels import EXAM_WEIGHTS
from pe_unified.errors import UserError
from pe_unified.evaluation.consistency import DIGITS, repair
from pe_unified.evaluation.intervals import FloatArray
from pe_unified.files import write_text


class SubmissionError(UserError, ValueError):
    """Predictions unfit for a submission; the message names the exam and what to change."""


@dataclass(frozen=True)
class AnsweredExam:
    """The predictions submitted for an exam.

    Attributes:
        study_uid: StudyInstanceUID.
        probability: float64 (9,), in the order of EXAM_WEIGHTS.
        sop_uids: SOPInstanceUID of each slice.
        slice_probability: float64 (slices,).
    """

    study_uid: str
    probability: FloatArray
    sop_uids: Sequence[str]
    slice_probability: FloatArray

    @classmethod
    def of_sample(cls, sample: Mapping[str, Any]) -> "AnsweredExam":
        """From a sample with ``pred_exam`` and ``pred_steps``, whose steps are slices."""
        if "pred_steps" not in sample:
            raise SubmissionError(
                f"{sample['study_uid']}: the challenge asks for every slice, but the model does "
                "not predict steps; give it a step head"
            )
        exam, steps = (
            torch.as_tensor(sample[field]).detach().cpu().double().numpy()
            for field in ("pred_exam", "pred_steps")
        )
        return cls(sample["study_uid"], exam[1:], list(sample["step_ids"]), steps)


def write_submission(
    path: str | Path, exams: Iterable[AnsweredExam], digits: int = DIGITS
) -> tuple[str, ...]:
    """Write every exam's nine labels and its slices, after :func:`~.consistency.repair`.

    Columns are ``id`` (``<StudyInstanceUID>_<label>``, or the SOPInstanceUID) and ``label``, a
    probability. The file is written atomically.

    Args:
        path: path of the file.
        exams: each exam once.
        digits: decimals of the probabilities.

    Returns:
        The studies that broke the challenge's rules and were repaired.

    Raises:
        SubmissionError: there is no exam, an exam or a slice is duplicated, or a prediction is
            missing.
        OSError: the file cannot be written.
    """
    rows: dict[str, str] = {}
    repaired = []
    for exam in exams:
        _require_answers(exam)
        labels, slices = repair(exam.probability, exam.slice_probability, digits)
        kept = (labels == exam.probability).all() and (slices == exam.slice_probability).all()
        repaired += [] if kept else [exam.study_uid]
        names = [*(f"{exam.study_uid}_{name}" for name in EXAM_WEIGHTS), *exam.sop_uids]
        for name, value in zip(names, np.round([*labels, *slices], digits), strict=True):
            if name in rows:
                raise SubmissionError(
                    f"'{name}' appears twice in the submission; test each exam once, and its "
                    "slices once"
                )
            rows[name] = f"{value:.{digits}f}"
    if not rows:
        raise SubmissionError("there is no exam to submit; the test split is empty")
    table = ({"id": name, "label": value} for name, value in rows.items())
    write_text(Path(path), csv_text(("id", "label"), table))
    return tuple(repaired)


def _require_answers(exam: AnsweredExam) -> None:
    missing = [
        name for name, value in zip(EXAM_WEIGHTS, exam.probability, strict=True) if np.isnan(value)
    ]
    if missing:
        raise SubmissionError(
            f"{exam.study_uid}: no answer for {', '.join(missing)}; the challenge asks for all "
            f"{len(EXAM_WEIGHTS)} labels, so take a model that answers them"
        )
    if len(exam.sop_uids) != len(exam.slice_probability) or not len(exam.sop_uids):
        raise SubmissionError(
            f"{exam.study_uid}: {len(exam.slice_probability)} probabilities for "
            f"{len(exam.sop_uids)} slices; take a model whose steps are slices"
        )
    if np.isnan(exam.slice_probability).any():
        raise SubmissionError(f"{exam.study_uid}: a slice's probability is NaN; the model diverged")
