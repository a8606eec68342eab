"""Training with part of the slice labels: which are hidden (semi-weak supervision)."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

Mode = Literal["even", "exams"]


def hidden_labels(
    labels: Sequence[Sequence[int | None]], portion: float, mode: Mode = "even", seed: int = 0
) -> list[list[bool]]:
    """Which slice labels training does without, the same in every round.

    Args:
        labels: of every exam, those of its slices; None where unknown.
        portion: of the known labels, 0 to 1. Exactly that share is hidden, rounded to whole labels
            (``"even"``) or whole exams (``"exams"``) over the set.
        mode: ``"even"``: single slices at equal distances through all exams (Hu et al., npj Digit
            Med 2025;8:254); ``"exams"``: all slices of exams that are drawn, so that a larger
            portion hides all that a smaller one does.
        seed: of the exams.

    Raises:
        ValueError: the portion does not lie in [0, 1], or no such mode.
    """
    if not 0 <= portion <= 1:
        raise ValueError(f"masked_label_portion lies between 0 and 1, got {portion}")
    known = [[label is not None for label in exam] for exam in labels]
    if mode == "even":
        total = sum(map(sum, known))
        hidden_by = [round(portion * total) * place // max(total, 1) for place in range(total + 1)]
        # The label at a place is hidden where the count of hidden ones goes up.
        goes = iter(np.diff(hidden_by).astype(bool).tolist())
        return [[each and next(goes) for each in exam] for exam in known]
    if mode != "exams":
        raise ValueError(f"masked_label_mode is 'even' or 'exams', got {mode!r}")
    labelled = [index for index, exam in enumerate(known) if any(exam)]
    drawn = np.random.default_rng(seed).permutation(labelled)[: round(portion * len(labelled))]
    chosen = set(drawn.tolist())
    return [[each and index in chosen for each in exam] for index, exam in enumerate(known)]
