"""Matching of the files of two folders by case."""

import csv
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pe_unified.ct.headers import natural_key
from pe_unified.ct.mask_volumes import MASK_FILES, PROBABILITIES
from pe_unified.errors import DataError
from pe_unified.evaluation.marks import MARK_FILES, FileMarks, read_marks
from pe_unified.paths import require_there

#: Suffixes after the name of the case: the channel of nnU-Net, the reference of CAD-PE, and common
#: words.
_BEHIND = re.compile(
    r"(_0000|RefStd|[-_.](mask|seg|segmentation|label|labels|prob|probs|pred|prediction))$", re.I
)
#: Mask files in a folder per case, as ``pe-unified batch`` writes them; the first is preferred.
_IN_A_FOLDER = ("mask.nii.gz", "mask.seg.dcm")


@dataclass(frozen=True, eq=False)
class Predicted:
    """The prediction of a system for one case; an empty mask if all are None.

    Attributes:
        mask: a mask or a probability map.
        probabilities: probabilities of nnU-Net, with its mask or alone.
        marks: marks from a file.
    """

    mask: Path | None = None
    probabilities: Path | None = None
    marks: FileMarks | None = None


@dataclass(frozen=True, eq=False)
class System:
    """All predictions of one system.

    Attributes:
        predicted: predictions by the name of the case.
        nothing: an empty prediction of this system.
        unmatched: names in its files that belong to no case.
    """

    name: str
    predicted: Mapping[str, Predicted]
    nothing: Predicted
    unmatched: Sequence[str] = ()


def case_name(path: Path) -> str:
    """The case of a file: its name without ending, or the folder's name for one folder per case."""
    if path.name in _IN_A_FOLDER:
        return path.parent.name
    lowered = path.name.lower()
    known = (*MASK_FILES, *PROBABILITIES, *MARK_FILES)
    endings = [end for end in known if lowered.endswith(end)]
    return path.name[: -len(max(endings, key=len))] if endings else path.name


def plain_name(name: str) -> str:
    """A name without common suffixes and without leading zeros of a number."""
    while (shorter := _BEHIND.sub("", name)) not in (name, ""):
        name = shorter
    return name.lstrip("0") or name if name.isdigit() else name


def find_files(folder: Path, endings: Sequence[str]) -> dict[str, Path]:
    """The files of a folder by the name of their case, in natural order.

    Raises:
        DataError: two files have the same case.
    """
    found: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.iterdir(), key=lambda each: natural_key(each.name)):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            inside = [path / name for name in _IN_A_FOLDER if name.endswith(tuple(endings))]
            found[path.name] += [each for each in inside if each.is_file()][:1]
        elif path.name.lower().endswith(tuple(endings)):
            found[case_name(path)].append(path)
    for name, paths in found.items():
        if len(paths) > 1:
            reason = f"two files of case {name}: {', '.join(path.name for path in paths)}"
            raise DataError(folder, reason, "keep one of them")
    return {name: paths[0] for name, paths in found.items() if paths}


def find_references(folder: Path) -> dict[str, Path]:
    """The reference masks of a folder by the name of their case.

    Raises:
        DataError: there is none.
    """
    if not folder.is_dir():
        raise DataError(folder, "no folder", "give the folder of the reference masks")
    found = find_files(folder, MASK_FILES)
    if not found:
        raise DataError(folder, f"no file ends in {', '.join(MASK_FILES)}", "check the path")
    return found


def find_system(
    path: Path, cases: Iterable[str], marks: Path | None, unit: str | None, pairs: Path | None
) -> System:
    """Find the predictions of a system for the cases of a reference.

    Args:
        path: its folder, or its file of marks.
        cases: names of the cases.
        marks: a file or a folder of marks, used instead of marks computed from masks.
        unit: unit of their coordinates.
        pairs: a CSV ``case,prediction`` if names do not match; else names are compared, first as
            they are, then without common suffixes.

    Raises:
        DataError: nothing is found, or names are ambiguous.
    """
    cases = list(cases)
    table = _read_pairs(pairs) if pairs else None
    name = path.stem if path.is_file() else path.resolve().name
    if path.is_file():
        path, marks = path.parent, path
        masks: dict[str, Path] = {}
        probabilities: dict[str, Path] = {}
    elif path.is_dir():
        masks = find_files(path, MASK_FILES)
        probabilities = find_files(path, PROBABILITIES)
        if not masks and not probabilities and marks is None:
            endings = ", ".join((*MASK_FILES, *PROBABILITIES))
            raise DataError(path, f"no file ends in {endings}", "check the path")
    else:
        raise DataError(path, "no such file or folder", "check the path")
    own_marks = read_marks(marks, unit) if marks else {}
    found: dict[str, dict] = defaultdict(dict)
    unmatched: dict[str, None] = {}
    for kind, named in (("mask", masks), ("probabilities", probabilities), ("marks", own_marks)):
        matched = _matched(cases, named, path, table)
        unmatched |= dict.fromkeys(name for name in named if name not in matched.values())
        for case, own in matched.items():
            found[case][kind] = named[own]
    if unmatched and not found:
        if pairs and table:
            first = ",".join(next(iter(table.items())))
            reason = f"no line names a case and a prediction that exist; the first names {first}"
            cure = f"write cases of the reference, and names of {marks or path}"
            raise DataError(pairs, reason, cure)
        reason = f"none of its names is one of the {len(cases)} cases of the reference"
        raise DataError(marks or path, reason, "pair them with --pairs FILE.csv (case,prediction)")
    no_marks = None
    if marks is not None:
        no_marks = FileMarks.none(scored=any(each.scored for each in own_marks.values()))
        if marks.is_file():  # a file does not list scans without marks
            for case in cases:
                found[case].setdefault("marks", no_marks)
    masked = bool(masks or probabilities)
    predicted = {
        case: Predicted(**kinds)
        for case, kinds in found.items()
        if (not masked or "mask" in kinds or "probabilities" in kinds)
        and (marks is None or "marks" in kinds)
    }
    nothing = Predicted(marks=None if masked else no_marks)
    return System(name, predicted, nothing, list(unmatched))


def _matched(
    cases: Sequence[str], named: Mapping[str, object], where: Path, pairs: Mapping[str, str] | None
) -> dict[str, str]:
    """Case to the name of its prediction."""
    if pairs is not None:
        return {case: pairs[case] for case in cases if pairs.get(case) in named}
    exact = {case: case for case in cases if case in named}
    rest: dict[str, list[str]] = defaultdict(list)
    for name in named:
        if name not in exact:
            rest[plain_name(name)].append(name)
    open_cases: dict[str, list[str]] = defaultdict(list)
    for case in cases:
        if case not in exact:
            open_cases[plain_name(case)].append(case)
    for plain, own in open_cases.items():
        if plain in rest and len(own) + len(rest[plain]) > 2:
            names = ", ".join([*own, *rest[plain]])
            raise DataError(where, f"ambiguous names: {names}", "pair them with --pairs")
    return exact | {own[0]: rest[plain][0] for plain, own in open_cases.items() if plain in rest}


def _read_pairs(path: Path) -> dict[str, str]:
    """Case to prediction, both without folder and ending."""
    require_there(path)
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
        return {
            case_name(Path(row["case"].strip())): case_name(Path(row["prediction"].strip()))
            for row in rows
        }
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, AttributeError) as error:
        cure = "write a header case,prediction and a line for every case"
        raise DataError(path, "not a table of pairs", cure, error) from error
