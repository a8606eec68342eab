"""The data of a split that metrics keep: small arrays per slice, with the patient of each."""

import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pe_unified.files import appearing

IntArray = NDArray[np.int64]
T = TypeVar("T", bound="Table")


@dataclasses.dataclass(frozen=True)
class Table:
    """Arrays of one split.

    Fields:
        patients: all patients, sorted, without duplicates.
        groups: group of each patient: patients of one group (one family, or synthetic studies of
            one anatomy) are not independent. Empty: each patient is its own group.
    """

    patients: tuple[str, ...]
    groups: tuple[str, ...] = dataclasses.field(default=(), kw_only=True)

    @property
    def units(self) -> IntArray:
        """The units of intervals: int64 (patients,), the group of each, numbered from 0."""
        return index_patients(self.groups or self.patients)[1]

    def save(self, path: str | os.PathLike) -> None:
        """Write the table as ``.npz``, atomically."""
        arrays: dict[str, Any] = {
            field.name: np.asarray(getattr(self, field.name)) for field in dataclasses.fields(self)
        }
        with appearing(Path(path)) as partial, partial.open("wb") as stream:
            np.savez_compressed(stream, **arrays)

    @classmethod
    def load(cls: type[T], path: str | os.PathLike) -> T:
        """Read a file written by :meth:`save`.

        Raises:
            FileNotFoundError: no such file.
            ValueError: the file has another kind of table.
        """
        with np.load(path, allow_pickle=False) as stored:
            arrays = dict(stored)
        fields = dataclasses.fields(cls)
        expected = {field.name for field in fields}
        # A default_factory marks a field that older files lack.
        required = {field.name for field in fields if field.default_factory is dataclasses.MISSING}
        if not required <= set(arrays) <= expected:
            raise ValueError(
                f"{path} holds {sorted(arrays)}, not a {cls.__name__} ({sorted(expected)})"
            )
        for key in ("patients", "groups"):
            arrays[key] = tuple(str(name) for name in arrays[key])
        return cls(**arrays)


def index_patients(patient_ids: Iterable[str]) -> tuple[tuple[str, ...], IntArray]:
    """Sorted distinct patients, and the index of each given id among them."""
    ids = [str(patient) for patient in patient_ids]
    names = sorted(set(ids))
    position = {name: index for index, name in enumerate(names)}
    return tuple(names), np.array([position[name] for name in ids], dtype=np.int64)


def sum_by_patient(values: NDArray, patient: IntArray, patients: int) -> NDArray[np.float64]:
    """Sum rows of ``values`` (rows, columns) by patient: float64 (patients, columns)."""
    sums = np.zeros((patients, values.shape[1]))
    np.add.at(sums, patient, values)
    return sums
