"""A balanced subset of RSNA-STR PE: numbers of slices with and without embolus, by study.

Studies and their slices are drawn by a hash of the seed and their UID. So the choice does not
depend on the order of the csv, and a larger choice contains all studies of a smaller one.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pe_unified.converters.raw.rsna_table import SliceRow, StudyCounts


@dataclass(frozen=True)
class Subset:
    """The size of the subset.

    Attributes:
        positives, negatives: slices to choose.
        per_study: maximum of each class from one study, as long as there are enough studies.
        from_positive: share of the negatives from studies with embolism, where they are hardest;
            the rest comes from negative exams.
    """

    positives: int
    negatives: int
    per_study: int = 20
    from_positive: float = 0.4
    seed: int = 0


def choose_studies(
    studies: dict[str, StudyCounts], subset: Subset
) -> tuple[dict[str, tuple[int, int]], list[str]]:
    """How many slices to take from each study.

    Positives are taken study by study in random order. Negatives come first from the same
    studies, up to their share, then from random negative exams. If the limit per study leaves
    too few, the same studies give more, then further studies.

    Returns:
        Study to (positives, negatives), and problems if the set has too few.
    """
    order = sorted(studies, key=lambda study: _draw(subset.seed, study))
    positive = [study for study in order if studies[study].positives]
    negative = [study for study in order if not studies[study].positives]
    wanted_pos = _fill(
        subset.positives, [(s, studies[s].positives) for s in positive], subset.per_study
    )
    hard = round(subset.negatives * subset.from_positive) if subset.positives else 0
    used = [study for study in positive if study in wanted_pos]
    wanted_neg = _fill(hard, [(s, studies[s].negatives) for s in used], subset.per_study)
    easy = subset.negatives - sum(wanted_neg.values())
    wanted_neg |= _fill(easy, [(s, studies[s].negatives) for s in negative], subset.per_study)
    missing = subset.negatives - sum(wanted_neg.values())
    if missing > 0:
        left = [(s, studies[s].negatives - wanted_neg.get(s, 0)) for s in positive]
        for study, count in _fill(missing, left, subset.per_study).items():
            wanted_neg[study] = wanted_neg.get(study, 0) + count
    problems = [
        f"asked for {asked} {name} slices, the csv (with --boxed-only, its studies with boxes) has "
        f"only {sum(found.values())}; ask for fewer"
        for name, asked, found in (
            ("positive", subset.positives, wanted_pos),
            ("negative", subset.negatives, wanted_neg),
        )
        if sum(found.values()) < asked
    ]
    chosen = {
        study: (wanted_pos.get(study, 0), wanted_neg.get(study, 0))
        for study in order
        if study in wanted_pos or study in wanted_neg
    }
    return chosen, problems


def choose_slices(
    rows: Sequence[SliceRow], positives: int, negatives: int, seed: int
) -> list[SliceRow]:
    """Random slices of a study, this many per class, in the given order."""
    kept: set[str] = set()
    for label, count in ((1, positives), (0, negatives)):
        drawn = sorted(
            (row for row in rows if row.label == label), key=lambda row: _draw(seed, row.sop_uid)
        )
        kept |= {row.sop_uid for row in drawn[:count]}
    return [row for row in rows if row.sop_uid in kept]


def _fill(total: int, available: Iterable[tuple[str, int]], cap: int) -> dict[str, int]:
    """Take up to ``cap`` from each in turn, in repeated rounds until ``total`` is reached."""
    offers = [(name, count) for name, count in available if count > 0]
    taken: dict[str, int] = {}
    left = total
    while left > 0 and offers:
        still = []
        for name, count in offers:
            share = min(cap, count, left)
            if share:
                taken[name] = taken.get(name, 0) + share
            left -= share
            if count > share:
                still.append((name, count - share))
        offers = still
    return taken


def _draw(seed: int, name: str) -> str:
    return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()
