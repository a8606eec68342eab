"""Splits of sets that were already converted, to be used for another set.

Sets that share people (studies painted on one real anatomy, further studies of one patient) can be
merged only if each person is in the same split in all of them.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pe_unified.converters.contract.annotations import SplitFile, load_splits
from pe_unified.errors import DataError

_CURE = "make their groups agree (--groups), or leave out --splits-of and keep the sets apart"


@dataclass
class KnownSplits:
    """Who is in which split of other sets; empty by default.

    Attributes:
        groups: group to split.
        people: patient or study to its splits, each with a group (None for no group). Several
            sets may have different people of the same name.
        sets: for ``info``: the description and split seed of each set.
    """

    groups: dict[str, str] = field(default_factory=dict)
    people: dict[str, set[tuple[str, str | None]]] = field(default_factory=dict)
    sets: list[dict[str, Any]] = field(default_factory=list)

    def place(
        self, studies: Mapping[str, Iterable[str]], groups: Mapping[str, str]
    ) -> dict[str, str]:
        """The splits of the patients that are found here.

        Args:
            studies: patient to the UIDs of its studies.
            groups: patient to group; others are their own group.

        Returns:
            Group, or patient that is its own group, to split.

        Raises:
            DataError: parts of a group, or patients of the same name, are found in different
                splits.
        """
        found: dict[str, dict[str, str]] = defaultdict(dict)
        for patient in sorted(studies):
            group = groups.get(patient)
            # Another set may have named a group after this patient.
            unit = patient if group is None else group
            splits = found[unit]
            if unit in self.groups:
                splits.setdefault(self.groups[unit], f"group {unit}")
            for name in (patient, *studies[patient]):
                for split, other in sorted(self.people.get(name, ()), key=str):
                    # With two different groups, they are two people of the same name.
                    if group is None or other is None or group == other:
                        splits.setdefault(split, name)
        for unit, splits in found.items():
            if len(splits) > 1:
                places = ", ".join(f"{name} in {split}" for split, name in splits.items())
                raise DataError(unit, f"is divided in --splits-of: {places}", _CURE)
        return {unit: split for unit, splits in found.items() for split in splits}


def read_splits(roots: Iterable[Path], out: Path) -> KnownSplits:
    """The splits of several converted sets, combined.

    Args:
        roots: dataset folders.
        out: the folder to be written. It must not be one of ``roots``, since a killed run would
            leave changed splits there.

    Raises:
        DataError: a set cannot be read, or a group is in two splits.
    """
    known = KnownSplits()
    for root in roots:
        if root.resolve() == out.resolve():
            raise DataError(root, "is the set to be written", "name another set in --splits-of")
        info: dict[str, Any] = {}
        for part in load_splits(root):
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
        for name in {image["patient_id"], image["study_uid"], image.get("person")} - {None}:
            known.people.setdefault(name, set()).add((split, group))
