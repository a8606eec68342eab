"""The splits of sets that are converted already, for another set that is to be given the same.

Sets that share people (studies painted on one real anatomy, other studies of one patient) can be
merged only if each person trains, validates or tests in all of them.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pe_unified.converters.contract.annotations import SplitFile, load_split_file
from pe_unified.converters.contract.splits import SPLITS
from pe_unified.errors import DataError

_CURE = "make their groups agree (--groups), or leave --splits-of out and the sets apart"


@dataclass
class KnownSplits:
    """Who is in which split elsewhere; empty by default.

    Attributes:
        groups: group to split.
        people: patient or study to splits, each with a group (None: of its own). Several sets
            may have different people of one name.
        sets: for ``info``: of each set its description and the seed of its splits.
    """

    groups: dict[str, str] = field(default_factory=dict)
    people: dict[str, set[tuple[str, str | None]]] = field(default_factory=dict)
    sets: list[dict[str, Any]] = field(default_factory=list)

    def place(
        self, studies: Mapping[str, Iterable[str]], groups: Mapping[str, str]
    ) -> dict[str, str]:
        """The splits of those that are found here.

        Args:
            studies: patient to the UIDs of its studies.
            groups: patient to group; others are their own group.

        Returns:
            Group, or patient that is its own group, to split.

        Raises:
            DataError: a group of which parts, or a patient whose name, is found in different
                splits.
        """
        found: dict[str, dict[str, str]] = defaultdict(dict)
        for patient in sorted(studies):
            group = groups.get(patient)
            # Others may have named their group after this patient.
            unit = patient if group is None else group
            splits = found[unit]
            if unit in self.groups:
                splits.setdefault(self.groups[unit], f"group {unit}")
            for name in (patient, *studies[patient]):
                for split, other in sorted(self.people.get(name, ()), key=str):
                    # Of two groups, they are two people of one name.
                    if group is None or other is None or group == other:
                        splits.setdefault(split, name)
        for unit, splits in found.items():
            if len(splits) > 1:
                places = ", ".join(f"{name} in {split}" for split, name in splits.items())
                raise DataError(unit, f"is divided in --splits-of: {places}", _CURE)
        return {unit: split for unit, splits in found.items() for split in splits}


def read_splits(roots: Iterable[Path], out: Path) -> KnownSplits:
    """The splits of converted sets, together.

    Args:
        roots: dataset folders.
        out: where the splits are needed; none of ``roots``, since a killed run would leave
            other splits behind than it found.

    Raises:
        DataError: a set that cannot be read, or a group in two splits.
    """
    known = KnownSplits()
    for root in roots:
        if root.resolve() == out.resolve():
            raise DataError(root, "is the set to be written", "name another set in --splits-of")
        info: dict[str, Any] = {}
        for split in SPLITS:
            part = load_split_file(root / "annotations" / f"{split}.json")
            if isinstance(part, str) or part.faults:
                reason = part if isinstance(part, str) else part.faults[0]
                raise DataError(root, reason, "run verify.py on it")
            _note(known, part, root)
            info = part.info
        known.sets.append({key: info.get(key) for key in ("description", "split_seed")})
    return known


def _note(known: KnownSplits, part: SplitFile, root: Path) -> None:
    split = part.name
    for image in part.images:
        group = image.get("group")
        before = split if group is None else known.groups.setdefault(group, split)
        if before != split:
            raise DataError(root, f"group {group} is in {split}, and in {before}, too", _CURE)
        for name in (image["patient_id"], image["study_uid"]):
            known.people.setdefault(name, set()).add((split, group))
