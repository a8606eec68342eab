"""Masks of structures that another program found in a study, resampled to its slices.

They are read in the format of TotalSegmentator (Wasserthal et al. 2023,
https://doi.org/10.1148/ryai.230024): a folder with one NIfTI per structure, or with ``--ml`` one
label map, whose header names the labels.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import nibabel
import numpy as np

from pe_unified.ct.grids import turn_of, turned_affine
from pe_unified.ct.overlay import nearest_voxels, same_grid
from pe_unified.ct.study import CTStudy
from pe_unified.ct.volume_files import read_nifti
from pe_unified.errors import DataError
from pe_unified.options import NIFTI

RIGHT_VENTRICLE, LEFT_VENTRICLE = "heart_ventricle_right", "heart_ventricle_left"
#: Pulmonary arteries: in the mediastinum (task heartchambers_highres, or total in its first
#: version), and in the lungs (task lung_vessels).
ARTERIES = ("pulmonary_artery", "lung_arteries")
#: Structures that are read; all others in a folder or label map are ignored.
STRUCTURES = (RIGHT_VENTRICLE, LEFT_VENTRICLE, *ARTERIES)

#: Code of the NIfTI header extension that TotalSegmentator writes.
_XML = 0
#: If a smaller share of a mask is inside the study, a note is added.
_MOST_INSIDE = 0.98
_CURE = "give the masks of this study, or leave the structures out"


@dataclass(frozen=True, eq=False)
class Structure:
    """A mask on the grid of a study, cropped to its content.

    Attributes:
        mask: bool (slices, rows, cols); empty if the whole mask is.
        start: (slice, row, col) of its first voxel in the study.
    """

    mask: np.ndarray
    start: tuple[int, int, int]

    @classmethod
    def cut(cls, mask: np.ndarray, start: tuple[int, int, int] = (0, 0, 0)) -> "Structure":
        """Crop a mask (slices, rows, cols) whose first voxel is ``start`` of the study."""
        spans = [np.flatnonzero(mask.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
        if not len(spans[0]):
            return cls(np.zeros((0, 0, 0), dtype=bool), (0, 0, 0))
        part = mask[tuple(slice(span[0], span[-1] + 1) for span in spans)]
        first, row, col = (int(span[0]) + at for span, at in zip(spans, start, strict=True))
        return cls(part.copy(), (first, row, col))

    def on(self, start: tuple[int, int, int], shape: tuple[int, int, int]) -> np.ndarray:
        """The part of the study that begins at ``start``: bool of ``shape``; must hold the mask."""
        whole = np.zeros(shape, dtype=bool)
        where = tuple(
            slice(own - first, own - first + size)
            for own, first, size in zip(self.start, start, self.mask.shape, strict=True)
        )
        whole[where] = self.mask
        return whole

    @property
    def stop(self) -> tuple[int, int, int]:
        """(slice, row, col) after its last voxel."""
        first, row, col = (a + n for a, n in zip(self.start, self.mask.shape, strict=True))
        return first, row, col


@dataclass(frozen=True, eq=False)
class Structures:
    """The given structures by name, and notes on how they were processed."""

    masks: Mapping[str, Structure] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_structures(path: Path, study: CTStudy) -> Structures:
    """Read those of :data:`STRUCTURES` that a folder or a label map contains.

    A mask on the grid of the study is used unchanged; any other is resampled by nearest voxels,
    with a note.

    Args:
        path: a folder of NIfTI files named after their structures, or a NIfTI label map. Its
            labels are named by TotalSegmentator in its header, or in a JSON file of the same name
            next to it, as ``{"heart_ventricle_left": 3}``.
        study: to whose grid they are resampled.

    Raises:
        DataError: nothing there, unreadable, none of the structures, no names for the labels, a
            mask that does not overlap the study, or a study without position.
    """
    if not study.placed:
        reason = "the study has no position, so no mask can be laid over it"
        raise DataError(path, reason, "leave the structures out, or export the study again")
    masks, notes = {}, []
    for name, file, stored, affine in _stored(path):
        structure, said = _laid_over(study, name, file, stored, affine)
        masks[name] = structure
        notes += said
    return Structures(masks, tuple(notes))


def _stored(path: Path) -> Iterator[tuple[str, Path, np.ndarray, np.ndarray]]:
    """Name, file, bool array (i, j, k) and affine to LPS mm of each structure."""
    if not path.exists():
        raise DataError(path, "no such file or folder", "check --structures")
    if path.is_dir():
        files = {
            name: file
            for name in STRUCTURES
            for ending in NIFTI
            if (file := path / f"{name}{ending}").is_file()
        }
        if not files:
            reason = f"holds none of {', '.join(f'{name}.nii.gz' for name in STRUCTURES)}"
            raise DataError(path, reason, "run TotalSegmentator's task heartchambers_highres")
        for name, file in files.items():
            array, affine = read_nifti(file)
            yield name, file, array > 0.5, affine
        return
    if not path.name.lower().endswith(NIFTI):
        raise DataError(path, "neither a folder nor NIfTI", "give masks as TotalSegmentator does")
    array, affine = read_nifti(path)
    labels = _labels(path)
    known = [name for name in STRUCTURES if name in labels]
    if not known:
        reason = f"names none of {', '.join(STRUCTURES)}"
        raise DataError(path, reason, "name its labels in a JSON file beside it")
    for name in known:
        yield name, path, array == labels[name], affine


def names_file(label_map: Path) -> Path:
    """The JSON file beside a label map that may name its labels."""
    return label_map.with_name(
        re.sub(r"\.nii(\.gz)?$", ".json", label_map.name, flags=re.IGNORECASE)
    )


def _labels(path: Path) -> dict[str, int]:
    """Labels of a map by name: from the JSON next to it, else from its header."""
    beside = names_file(path)
    try:
        if beside.is_file():
            named = json.loads(beside.read_text("utf-8"))
            return {str(name): int(value) for name, value in named.items()}
        header = nibabel.Nifti1Image.from_filename(path).header
        tables = [each for each in header.extensions if each.get_code() == _XML]
        for table in tables:
            parsed = ElementTree.fromstring(table.get_content().strip(b"\0 \n"))
            return {
                (label.text or "").strip(): int(label.attrib["Key"])
                for label in parsed.iter("Label")
            }
    except (
        OSError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        ElementTree.ParseError,
    ) as error:
        cure = 'correct it, as {"heart_ventricle_left": 3}'
        raise DataError(path, "unreadable names of labels", cure, error) from error
    return {}


def _laid_over(
    study: CTStudy, name: str, file: Path, stored: np.ndarray, affine: np.ndarray
) -> tuple[Structure, list[str]]:
    """A stored mask on the grid of a study, and notes on it."""
    turn = turn_of(affine)
    own = turned_affine(affine, turn, stored.shape)
    mask = turn.apply(stored)
    if not mask.any():
        return Structure.cut(mask), []
    same = same_grid(study, mask.shape, own)
    whole = mask if same else nearest_voxels(mask, own, study)
    if not whole.any():
        raise DataError(file, f"{name} does not overlap the study", _CURE)
    notes = []
    if not same:
        col, row, step = np.linalg.norm(own[:3, :3], axis=0)
        notes.append(
            f"{name}: nearest voxels of a mask of {mask.shape[0]} x {mask.shape[1]} x "
            f"{mask.shape[2]} voxels of {step:.2f} x {row:.2f} x {col:.2f} mm"
        )
        inside = whole.sum() * abs(np.linalg.det(study.affine_lps()[:3, :3]))
        inside /= mask.sum() * abs(np.linalg.det(own[:3, :3]))
        if inside < _MOST_INSIDE:
            notes.append(f"{name}: {100 * (1 - inside):.0f} % of its volume lies outside the study")
    return Structure.cut(whole), notes
