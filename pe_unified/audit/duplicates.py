"""Slices of different patients that are the same picture."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pe_unified.audit.findings import Finding
from pe_unified.converters.contract.fingerprint import SlicePrint, thumbnail
from pe_unified.ct.hu import read_slice_png
from pe_unified.progress import track

#: Bits of the prints by which candidates differ at most: one of four parts is then the same.
_MOST_BITS, _PARTS = 3, 4
#: Candidates are the same picture from this correlation of their thumbnails on.
LEAST_CORRELATION = 0.995
_SIDE = 64
#: Pairs of slices of two patients that are looked at in pixels, and groups of equal parts of prints
#: that are compared; larger ones are told as not compared.
_MOST_PAIRS, _MOST_EQUAL = 20, 4000
#: So many slices alike are no chance.
SEVERAL = 3


@dataclass
class Alike:
    """Two patients with slices that are alike.

    Fields:
        same: pairs of files with the same pixels.
        near: pairs that are the same but for noise, size or window, with their correlation.
    """

    same: list[tuple[str, str]] = field(default_factory=list)
    near: list[tuple[str, str, float]] = field(default_factory=list)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        return [*self.same, *((one, other) for one, other, _ in self.near)]


def find_alike(
    root: Path, prints: Sequence[SlicePrint], owners: Mapping[str, str]
) -> tuple[dict[tuple[str, str], Alike], int]:
    """Patients with slices that are alike.

    Args:
        root: of the set.
        prints: of its slices.
        owners: patient of each file.

    Returns:
        By pair of patients, sorted; and how many slices were too common to be compared.
    """
    found: dict[tuple[str, str], Alike] = defaultdict(Alike)
    seen = [each for each in prints if each.look >= 0]
    by_digest: dict[str, list[str]] = defaultdict(list)
    for each in seen:
        by_digest[each.digest].append(each.file_name)
    for files in by_digest.values():
        first = files[0]
        for other in files[1:]:
            if owners[first] != owners[other]:
                key = _key(owners, first, other)
                found[key].same.append(_ordered(owners, first, other))
    candidates: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    pairs, crowded = _near_prints(seen, owners)
    for one, other in sorted(pairs, key=lambda pair: (pairs[pair], pair)):
        files = seen[one].file_name, seen[other].file_name
        if seen[one].digest != seen[other].digest:
            candidates[_key(owners, *files)].append(_ordered(owners, *files))
    for key, own in track(candidates.items(), "comparing slices that look alike", len(candidates)):
        for one, other in _best(own):
            correlation = correlation_of(root / one, root / other)
            if correlation >= LEAST_CORRELATION:
                found[key].near.append((one, other, correlation))
    return {key: found[key] for key in sorted(found)}, crowded


def _key(owners: Mapping[str, str], one: str, other: str) -> tuple[str, str]:
    first, second = sorted((owners[one], owners[other]))
    return first, second


def _ordered(owners: Mapping[str, str], one: str, other: str) -> tuple[str, str]:
    return (one, other) if owners[one] <= owners[other] else (other, one)


def _best(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Of pairs by rising distance the first ones, each slice once."""
    taken: set[str] = set()
    chosen = []
    for pair in pairs:
        if taken.isdisjoint(pair) and len(chosen) < _MOST_PAIRS:
            taken.update(pair)
            chosen.append(pair)
    return chosen


def _near_prints(
    prints: Sequence[SlicePrint], owners: Mapping[str, str]
) -> tuple[dict[tuple[int, int], int], int]:
    """Pairs of slices of different patients whose looks differ by few bits, with these; and the
    number of slices whose part of a print is shared by too many."""
    looks = np.array([each.look for each in prints], dtype=np.uint64)
    names = {name: number for number, name in enumerate(sorted(set(owners.values())))}
    patient = np.array([names[owners[each.file_name]] for each in prints], dtype=np.int64)
    pairs: dict[tuple[int, int], int] = {}
    crowded = 0
    width = np.uint64(64 // _PARTS)
    for part in range(_PARTS):
        value = (looks >> (np.uint64(part) * width)) & np.uint64(2 ** int(width) - 1)
        order = np.argsort(value, kind="stable")
        starts = np.flatnonzero(np.diff(value[order], prepend=np.uint64(2**63)))
        for group in np.split(order, starts[1:]):
            if len(group) > _MOST_EQUAL:
                crowded += len(group)
            elif len(group) > 1 and len(set(patient[group])) > 1:
                apart = np.bitwise_count(looks[group][:, None] ^ looks[group][None, :])
                near = (apart <= _MOST_BITS) & (patient[group][:, None] < patient[group][None, :])
                for i, j in zip(*np.nonzero(near)):
                    pairs[int(group[i]), int(group[j])] = int(apart[i, j])
    return pairs, crowded


def correlation_of(one: Path, other: Path) -> float:
    """Of the thumbnails of two slices."""
    small = [thumbnail(read_slice_png(path), _SIDE).ravel() for path in (one, other)]
    return float(np.corrcoef(small)[0, 1])


def duplicate_findings(
    alike: Mapping[tuple[str, str], Alike],
    split_of: Mapping[str, str],
    group_of: Mapping[str, Any],
) -> Iterator[Finding]:
    """Leaks, where the patients are in two splits; else patients that may be one.

    Args:
        alike: of :func:`find_alike`.
        split_of: split of each patient.
        group_of: group of each patient; those of one group are known to belong together.
    """
    for (one, other), found in alike.items():
        if group_of.get(one) is not None and group_of.get(one) == group_of.get(other):
            continue
        splits = split_of[one], split_of[other]
        leak = splits[0] != splits[1]
        sure = bool(found.same) or len(found.near) >= SEVERAL
        where = f"{one} ({splits[0]}) and {other} ({splits[1]})"
        counts = [f"{len(found.same)} slices with the same pixels"] if found.same else []
        counts += [f"{_at_least(found.near)} nearly the same"] if found.near else []
        yield Finding(
            "near-identical slices",
            "error" if leak and sure else "warning",
            f"{where} share {' and '.join(counts)}"
            + ("; they may be one patient" if not leak else ""),
            items=[f"{first} = {second}" for first, second in found.pairs],
            files=[name for pair in found.pairs[:2] for name in pair],
        )


def _at_least(pairs: Sequence[object]) -> str:
    return f"{len(pairs)} or more" if len(pairs) == _MOST_PAIRS else str(len(pairs))


def owners_of(images: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Patient of each file."""
    return {image["file_name"]: image["patient_id"] for image in images}
