"""Hidden labels of steps, for training with part of the labels (semi-weak supervision)."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

Mode = Literal["even", "exams"]


def hidden_labels(
    labels: Sequence[Sequence[float]], portion: float, mode: Mode = "even", seed: int = 0
) -> list[list[bool]]:
    """The labels hidden from training, the same in every epoch.

    Args:
        labels: for every exam, the labels of its steps; NaN where unknown.
        portion: share of the known labels to hide, 0 to 1; exact over the set, rounded to whole
            labels (``"even"``) or whole exams (``"exams"``).
        mode: ``"even"``: single steps at equal distances through all exams (Hu et al., npj Digit
            Med 2025;8:254); ``"exams"``: all steps of randomly chosen exams, where a larger
            portion hides all labels that a smaller one hides.
        seed: seed for choosing the exams.

    Raises:
        ValueError: the portion is not in [0, 1], or the mode is unknown.
    """
    if not 0 <= portion <= 1:
        raise ValueError(f"masked_label_portion lies between 0 and 1, got {portion}")
    known = [[not math.isnan(label) for label in exam] for exam in labels]
    if mode == "even":
        total = sum(map(sum, known))
        hidden_by = [round(portion * total) * place // max(total, 1) for place in range(total + 1)]
        # A label is hidden where the count of hidden labels increases.
        goes = iter(np.diff(hidden_by).astype(bool).tolist())
        return [[each and next(goes) for each in exam] for exam in known]
    if mode != "exams":
        raise ValueError(f"masked_label_mode is 'even' or 'exams', got {mode!r}")
    labelled = [index for index, exam in enumerate(known) if any(exam)]
    drawn = np.random.default_rng(seed).permutation(labelled)[: round(portion * len(labelled))]
    chosen = set(drawn.tolist())
    return [[each and index in chosen for each in exam] for index, exam in enumerate(known)]
