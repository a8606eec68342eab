"""Finds the content of a folder: studies, masks, and other files."""

import io
import os
import re
import tarfile
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pydicom
from pydicom.uid import MediaStorageDirectoryStorage

from pe_unified.ct.companions import is_companion, is_no_slice
from pe_unified.ct.headers import list_files, read_headers
from pe_unified.errors import COPY_OR_REMOVE, DataError
from pe_unified.options import ARCHIVES, META_IMAGE, NIFTI, NRRD
from pe_unified.progress import track

VOLUMES = (*NIFTI, *NRRD, *META_IMAGE)
#: Words in file or folder names that indicate masks.
_MASK_WORDS = (
    "masks? segs? segmentations? labels? labelmaps? refstd gt ground ?truth truth emboli embolus "
    "embolie clots? thromb[a-z]* rois? maske[n]? annotations? rtstruct rtss"
)
_ANY = _MASK_WORDS.replace(" ?", ".?").replace(" ", "|")
_MASK = re.compile(rf"(?:^|[\W_\d])(?:{_ANY})(?![a-z])")
#: Words that surround the name of a study in a file name.
_AROUND = re.compile(
    rf"(?:^|[\W_]+|(?<=\d))(?:{_ANY}|ct|cta|ctpa|img|image|scan|series|dicom|pe|0000|boxes|slices)"
    r"(?![a-z])",
    re.IGNORECASE,
)
#: A file name's ending; after the last point of a UID there is a number.
_ENDING = re.compile(r"\.[a-z]\w*$", re.IGNORECASE)
#: PatientID of each slice file, by StudyInstanceUID, or by folder if there is none.
_Patients = dict[str, dict[Path, str]]
#: Bytes read of a header in an archive.
_HEADER = 1 << 20


@dataclass(frozen=True)
class FoundStudy:
    """A study.

    Attributes:
        path: the folder of its slices, a volume, or an archive.
        files: its DICOM files; empty if ``path`` is a file.
        uid, patient_id: from DICOM; empty if unknown.
    """

    path: Path
    files: tuple[Path, ...] = ()
    uid: str = ""
    patient_id: str = ""


@dataclass(frozen=True)
class FoundMask:
    """A file of masks; ``uid``: of the study on which it was drawn, if it says so."""

    path: Path
    uid: str = ""


@dataclass
class Tree:
    """The content of a folder.

    Attributes:
        slices: UIDs and files of all slices outside archives.
        broken: errors of files that should be slices but cannot be read.
        others: number of DICOM files per modality that are neither CT nor masks.
    """

    studies: list[FoundStudy] = field(default_factory=list)
    masks: list[FoundMask] = field(default_factory=list)
    slices: set[str] = field(default_factory=set)
    broken: list[DataError] = field(default_factory=list)
    others: dict[str, int] = field(default_factory=lambda: defaultdict(int))


def look_through(raw: Path) -> Tree:
    """Find the studies and masks below a folder; reads headers, no pixels.

    DICOM slices of one study may be in any number of folders; slices without a study UID form one
    study per folder. Links to folders elsewhere are followed, links inside of these are not.
    """
    tree = Tree()
    patients: _Patients = defaultdict(dict)
    for path in track(list_files(raw, links=True), "looking through the folder"):
        name = path.name.lower()
        if name.endswith(VOLUMES):
            if _is_mask(path, raw):
                tree.masks.append(FoundMask(path))
            else:
                tree.studies.append(FoundStudy(path))
        elif name.endswith(ARCHIVES):
            tree.studies.append(_in_archive(path))
        elif not is_companion(path):
            _note_dicom(path, tree, patients)
    for study, by_file in patients.items():
        folder = Path(os.path.commonpath([path.parent for path in by_file]))
        named = set(by_file.values()) - {""}
        if len(named) > 1:
            reason = f"slices of one study name {len(named)} patients"
            tree.broken.append(DataError(folder, reason, "correct their PatientID"))
        uid = "" if study.endswith(os.sep) else study
        tree.studies.append(FoundStudy(folder, tuple(by_file), uid, min(named, default="")))
    tree.studies.sort(key=lambda study: (study.path, study.uid))
    return tree


def _note_dicom(path: Path, tree: Tree, patients: _Patients) -> None:
    try:
        headers = read_headers(path)
    except DataError as error:
        if not is_no_slice(path):
            tree.broken.append(error)
        return
    first = headers[0]
    if first.modality in ("SEG", "RTSTRUCT"):
        tree.masks.append(FoundMask(path, first.study_uid))
    elif first.modality in ("", "CT") and first.rows:
        patients[first.study_uid or f"{path.parent}{os.sep}"][path] = first.patient_id
        tree.slices.update((*names_of(path.name), *(header.sop_uid for header in headers)))
    elif first.modality not in ("", "CT"):
        tree.others[first.modality] += 1
    elif first.sop_class != MediaStorageDirectoryStorage:
        tree.broken.append(DataError(path, "the header ends before the pixels", COPY_OR_REMOVE))


def _is_mask(path: Path, raw: Path) -> bool:
    """Whether a volume is a mask, by its name or that of its folder."""
    parts = path.relative_to(raw).parts[-2:]
    name = path.name.lower()
    return name.endswith(".seg.nrrd") or any(_MASK.search(part.lower()) for part in parts)


def names_of(file: str) -> tuple[str, str]:
    """Possible names of a slice in a file: the file name with and without ending."""
    return file, _ENDING.sub("", file)


def is_uid(name: str) -> bool:
    """Whether a name can only be a UID."""
    return "." in name and name.replace(".", "").isdecimal()


def bare_name(name: str) -> str:
    """The study name in the name of a file or folder: without ending, ``mask``, ``CT``..."""
    for ending in (".seg.nrrd", *VOLUMES, *ARCHIVES, ".dcm", ".csv", ".json"):
        if name.lower().endswith(ending):
            name = name[: -len(ending)]
            break
    while (shorter := _AROUND.sub("", name).strip("_-. ")) and shorter != name:
        name = shorter
    return name


def _in_archive(path: Path) -> FoundStudy:
    """An archive, with the study and patient of its first slice."""
    try:
        for content in _starts(path):
            try:
                found = pydicom.dcmread(
                    io.BytesIO(content),
                    stop_before_pixels=True,
                    specific_tags=["StudyInstanceUID", "PatientID", "Modality"],
                )
            except Exception:  # an archive may hold any file
                continue
            uid, patient = found.get("StudyInstanceUID", ""), found.get("PatientID", "")
            if found.get("Modality", "CT") == "CT" and (uid or patient):
                return FoundStudy(path, uid=str(uid).strip(), patient_id=str(patient).strip())
    except Exception:  # it is opened again later, which gives the message
        pass
    return FoundStudy(path)


def _starts(path: Path) -> Iterator[bytes]:
    """The first bytes of each file in an archive."""
    if path.name.lower().endswith(".zip"):
        with zipfile.ZipFile(path) as packed:
            for item in packed.infolist():
                if not item.is_dir():
                    with packed.open(item) as member:
                        yield member.read(_HEADER)
    else:
        with tarfile.open(path) as archive:
            for entry in archive:
                if entry.isfile() and (opened := archive.extractfile(entry)):
                    yield opened.read(_HEADER)
