"""Sets without a table of patients: the patients are found by listing folders."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from pe_unified.converters.pipeline.plan import PatientSource, Reader, folder_stamp, stamp
from pe_unified.converters.pipeline.raw_folders import refuse_several
from pe_unified.errors import DataError

AnyReader = TypeVar("AnyReader", bound=Reader)


class ListedSet(ABC, Generic[AnyReader]):
    """The shared part of the converters of such sets.

    Args:
        raw: the folder of raw files.
        reader: sent to the workers.
    """

    def __init__(self, raw: Path, reader: AnyReader):
        self.raw, self.reader = raw, reader
        self._sources = self._find()

    def __len__(self) -> int:
        return len(self._sources)

    def patients(self) -> Iterator[PatientSource]:
        return iter(self._sources)

    def problems(self) -> list[str]:
        return []

    @abstractmethod
    def _find(self) -> list[PatientSource]:
        """All patients, in natural order; if a file is missing, with the problem."""


def scan_with_mask(
    patient_id: str,
    scans: Sequence[Path],
    masks: Sequence[Path],
    cure_of_mask: str,
    cure_of_scan: str,
) -> PatientSource:
    """A patient with a folder of DICOM files and a file of masks.

    Args:
        patient_id: also the name of the files.
        scans, masks: all found under this name; one of each is expected.
        cure_of_mask: remedy for a mask without a scan.
        cure_of_scan: remedy for a scan without a mask.
    """
    problem: DataError | None
    if not scans:
        problem = DataError(masks[0], "a mask without a scan", cure_of_mask)
    elif not masks:
        problem = DataError(scans[0], "a scan without a mask", cure_of_scan)
    else:
        problem = refuse_several(patient_id, list(scans), list(masks))
    if problem is not None:
        return PatientSource(patient_id, None, problem=problem)
    signature = f"{folder_stamp(scans[0])},{stamp(masks[0])}"
    return PatientSource(patient_id, (scans[0], masks[0]), signature, slices=scans[0])
