"""Slices of different patients that show the same picture."""

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

#: Prints of candidates differ in at most so many bits: one of four parts is then the same.
_MOST_BITS, _PARTS = 3, 4
#: Lowest correlation of the thumbnails of candidates that are the same picture.
LEAST_CORRELATION = 0.995
_SIDE = 64
#: Most pairs of slices of two patients whose pixels are compared, and largest group of equal parts
#: of prints that is compared; larger groups are reported as not compared.
_MOST_PAIRS, _MOST_EQUAL = 20, 4000
#: Most prints that are compared; of larger sets, an even selection.
_MOST_PRINTS = 60_000
#: So many similar slices are not a coincidence.
SEVERAL = 3


@dataclass
class Alike:
    """Two patients with similar slices.

    Fields:
        same: pairs of files with the same pixels.
        near: pairs that are the same except for noise, size or a scale of the HU, with their
            correlation.
    """

    same: list[tuple[str, str]] = field(default_factory=list)
    near: list[tuple[str, str, float]] = field(default_factory=list)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        return [*self.same, *((one, other) for one, other, _ in self.near)]


@dataclass(frozen=True)
class Compared:
    """The result of a comparison.

    Fields:
        alike: by pair of patients, sorted.
        slices: number of slices compared; in very large sets, an even selection.
        crowded: of these, how many looks were in part too common to be compared.
    """

    alike: dict[tuple[str, str], Alike]
    slices: int
    crowded: int


def find_alike(root: Path, prints: Sequence[SlicePrint], owners: Mapping[str, str]) -> Compared:
    """Find patients with similar slices.

    Args:
        root: folder of the set.
        prints: prints of its slices.
        owners: patient of each file.
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
                pair = _ordered(owners, first, other)
                found[owners[pair[0]], owners[pair[1]]].same.append(pair)
    some = _thinned(seen, owners)
    candidates, crowded = _candidates(some, owners)
    for key, own in track(candidates.items(), "comparing slices that look alike", len(candidates)):
        for one, other in _best(own):
            correlation = correlation_of(root / one, root / other)
            if correlation >= LEAST_CORRELATION:
                found[key].near.append((one, other, correlation))
    return Compared({key: found[key] for key in sorted(found)}, len(some), crowded)


def _thinned(prints: Sequence[SlicePrint], owners: Mapping[str, str]) -> list[SlicePrint]:
    """All prints or, if there are very many, an even selection of each patient's."""
    if len(prints) <= _MOST_PRINTS:
        return list(prints)
    of_patient: dict[str, list[SlicePrint]] = defaultdict(list)
    for each in prints:
        of_patient[owners[each.file_name]].append(each)
    share = max(SEVERAL, _MOST_PRINTS // len(of_patient))
    return [
        own[place]
        for own in of_patient.values()
        for place in np.unique(np.linspace(0, len(own) - 1, share).round().astype(int))
    ]


def _ordered(owners: Mapping[str, str], one: str, other: str) -> tuple[str, str]:
    return (one, other) if owners[one] <= owners[other] else (other, one)


def _best(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The first of the pairs, which are sorted by distance, with each slice only once."""
    taken: set[str] = set()
    chosen = []
    for pair in pairs:
        if taken.isdisjoint(pair) and len(chosen) < _MOST_PAIRS:
            taken.update(pair)
            chosen.append(pair)
    return chosen


def _candidates(
    prints: Sequence[SlicePrint], owners: Mapping[str, str]
) -> tuple[dict[tuple[str, str], list[tuple[str, str]]], int]:
    """Pairs of slices whose looks differ in few bits, nearest first, of patients with several.

    Chests resemble each other, so a single pair means nothing.

    Returns:
        Files by pair of patients; and the number of slices that share a part of their print with
        too many others.
    """
    looks = np.array([each.look for each in prints], dtype=np.uint64)
    names = sorted({owners[each.file_name] for each in prints})
    number = {name: place for place, name in enumerate(names)}
    patient = np.array([number[owners[each.file_name]] for each in prints], dtype=np.int64)
    pairs = [np.empty((0, 3), dtype=np.int64)]
    crowded = np.zeros(len(looks), dtype=bool)
    width = np.uint64(64 // _PARTS)
    for part in range(_PARTS):
        value = (looks >> (np.uint64(part) * width)) & np.uint64(2 ** int(width) - 1)
        order = np.argsort(value, kind="stable")
        starts = np.flatnonzero(np.diff(value[order], prepend=np.uint64(2**63)))
        for group in np.split(order, starts[1:]):
            if len(group) > _MOST_EQUAL:
                crowded[group] = True
            elif len(group) > 1:
                apart = np.bitwise_count(looks[group][:, None] ^ looks[group][None, :])
                near = (apart <= _MOST_BITS) & (patient[group][:, None] < patient[group][None, :])
                one, other = np.nonzero(near)
                pairs.append(np.stack([group[one], group[other], apart[one, other]], axis=1))
    every = np.unique(np.concatenate(pairs), axis=0)
    every = every[np.argsort(every[:, 2], kind="stable")]
    whose = patient[every[:, 0]] * len(names) + patient[every[:, 1]]
    both, counts = np.unique(whose, return_counts=True)
    several = np.isin(whose, both[counts >= SEVERAL])
    found: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for one, other, _ in every[several]:
        first, second = prints[one], prints[other]
        if first.digest != second.digest:
            key = owners[first.file_name], owners[second.file_name]
            found[key].append((first.file_name, second.file_name))
    return found, int(crowded.sum())


def correlation_of(one: Path, other: Path) -> float:
    """Correlation of the thumbnails of two slices."""
    small = [thumbnail(read_slice_png(path), _SIDE).ravel() for path in (one, other)]
    return float(np.corrcoef(small)[0, 1])


def duplicate_findings(
    alike: Mapping[tuple[str, str], Alike],
    split_of: Mapping[str, str],
    group_of: Mapping[str, Any],
) -> Iterator[Finding]:
    """Leaks, if the patients are in two splits; otherwise patients that may be the same.

    Args:
        alike: from :func:`find_alike`.
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


def series_findings(images: Iterable[tuple[Mapping[str, Any], str]]) -> Iterator[Finding]:
    """Series UIDs that occur in several splits; ``images``: entries of slices with their split.

    ``verify`` accepts them, because some de-identification programs give one UID to many series.
    """
    where: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for image, split in images:
        if image["series_uid"] is not None:
            where[image["series_uid"]][split].add(image["patient_id"])
    shared = {uid: splits for uid, splits in where.items() if len(splits) > 1}
    if shared:
        items = []
        for uid, splits in shared.items():
            owners = [f"{each} ({split})" for split in splits for each in sorted(splits[split])]
            items.append(f"{uid}: {', '.join(owners)}")
        yield Finding(
            "leaks between splits",
            "error",
            f"{len(shared)} series UIDs are in several splits: one scan under several names, or "
            "UIDs that are not unique",
            items=items,
        )


def _at_least(pairs: Sequence[object]) -> str:
    return f"{len(pairs)} or more" if len(pairs) == _MOST_PAIRS else str(len(pairs))


def owners_of(images: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Patient of each file."""
    return {image["file_name"]: image["patient_id"] for image in images}
