"""Two arms of an experiment on the same test patients, each arm trained with several seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

from pe_unified.evaluation.bootstrap import (
    Difference,
    Statistic,
    mean_statistic,
    paired_difference,
)
from pe_unified.evaluation.detection import DetTable
from pe_unified.evaluation.segmentation import SegTable
from pe_unified.evaluation.slices import SliceTable
from pe_unified.evaluation.tables import Table

#: Kind of table by the prefix of its metrics.
TABLES: Mapping[str, type[Table]] = {"cls": SliceTable, "seg": SegTable, "det": DetTable}


def compare_arms(
    first: Sequence[tuple[Any, float]],
    second: Sequence[tuple[Any, float]],
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Difference]:
    """``second`` minus ``first``, each the mean over its seeds, on the same patients.

    The interval covers which patients happened to be tested. It does not cover which seeds
    were drawn: show their spread beside it.

    Args:
        first: one ``(table, threshold)`` per seed; a ``SliceTable``, ``SegTable`` or
            ``DetTable`` with the threshold that was fixed on validation.
        second: the same for the other arm; the numbers of seeds may differ.

    Returns:
        the difference of every metric, by its name without prefix.

    Raises:
        ValueError: the tables are of different kinds, or do not hold the same patients.
    """
    runs = [*first, *second]
    if not first or not second:
        raise ValueError("both arms need at least one run")
    kinds = {type(table).__name__ for table, _ in runs}
    if len(kinds) > 1:
        raise ValueError(f"the runs hold different tables: {', '.join(sorted(kinds))}")
    patients = set(runs[0][0].patients)
    for table, _ in runs:
        strangers = sorted(patients ^ set(table.patients))
        if strangers:
            raise ValueError(
                f"the runs were not tested on the same patients; {', '.join(strangers[:5])} "
                "occur in some only: evaluate all on one test split"
            )
    return paired_difference(_arm(first), _arm(second), len(patients), resamples, seed)


def _arm(runs: Sequence[tuple[Any, float]]) -> Statistic:
    return mean_statistic([table.statistic(threshold) for table, threshold in runs])
