"""Metrics of part of a test: of some patients or some slices."""

from collections.abc import Collection
from dataclasses import fields, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pe_unified.evaluation.intervals import Estimate, FloatArray, Statistic, estimate
from pe_unified.evaluation.segmentation import SegTable
from pe_unified.evaluation.slices import SliceTable
from pe_unified.evaluation.tables import Table, index_patients

SlicesTable = TypeVar("SlicesTable", SliceTable, SegTable)


def of_patients(
    table: Table, statistic: Statistic, chosen: Collection[str]
) -> dict[str, Estimate] | None:
    """Metrics and intervals over the chosen patients only.

    Args:
        table: table of the test.
        statistic: statistic of the table, at a threshold.
        chosen: patients; those not in the table are ignored.

    Returns:
        By metric; None if no patient is left.
    """
    kept = np.flatnonzero([patient in chosen for patient in table.patients])
    if not len(kept):
        return None

    def of_part(weights: FloatArray) -> dict[str, FloatArray]:
        whole = np.zeros((len(weights), len(table.patients)))
        whole[:, kept] = weights
        return statistic(whole)

    units = np.unique(table.units[kept], return_inverse=True)[1]
    return estimate(of_part, units)


def of_slices(table: SlicesTable, kept: NDArray[np.bool_]) -> SlicesTable:
    """The table of some slices, with only their patients.

    Args:
        table: a table with one row per slice.
        kept: bool (slices,).
    """
    group_of = dict(zip(table.patients, table.groups or table.patients, strict=True))
    patients, patient = index_patients(table.patients[row] for row in table.patient[kept])
    rows: dict[str, Any] = {
        field.name: getattr(table, field.name)[kept]
        for field in fields(table)
        if field.name not in ("patients", "groups", "patient")
    }
    groups = tuple(group_of[each] for each in patients)
    return replace(table, patients=patients, groups=groups, patient=patient, **rows)
