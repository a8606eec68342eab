"""Splits patients into train, validation and test: by patient, seeded, stratified."""

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

from pe_unified.errors import DataError

SPLITS = ("train", "val", "test")
#: The last stratum.
_UNKNOWN = 2


def assign_splits(
    has_pe: Mapping[str, bool | None],
    fractions: Sequence[float] = (0.7, 0.15, 0.15),
    seed: int = 0,
    groups: Mapping[str, str] | None = None,
    fixed: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Give every patient a split.

    Args:
        has_pe: per patient, for stratification; unknown is a separate stratum.
        fractions: of train, val and test; positive numbers of which only the ratio matters.
        seed: of the shuffling; the order of ``has_pe`` does not matter.
        groups: patient to group; a group is never divided. Others are their own group.
        fixed: group, or patient that is its own group, to a required split; the others are
            distributed to balance this.

    Returns:
        Patient to ``train``, ``val`` or ``test``. No requested split stays empty, or without a
        patient whose embolism is known, if there are enough groups.
    """
    check_division(fractions, 0)
    shares = [fraction / sum(fractions) for fraction in fractions]
    placed = {name: SPLITS.index(split) for name, split in (fixed or {}).items()}
    parts = _divide(has_pe, shares, seed, groups or {}, placed)
    return {patient: SPLITS[part] for patient, part in sorted(parts.items())}


def assign_folds(
    has_pe: Mapping[str, bool | None],
    folds: int,
    seed: int = 0,
    groups: Mapping[str, str] | None = None,
) -> dict[str, int]:
    """Give every patient one of ``folds`` parts of nearly equal size, numbered from 0.

    Raises:
        ValueError: there are fewer groups than folds, so a fold would be empty.
    """
    check_division((1, 0, 0), folds or 1)
    known = {(groups or {}).get(patient, patient) for patient in has_pe}
    if len(known) < folds:
        raise ValueError(f"{folds} folds need as many patients or groups; there are {len(known)}")
    return dict(sorted(_divide(has_pe, [1 / folds] * folds, seed, groups or {}, {}).items()))


def fold_names(folds: int, held_out: int | None = None) -> list[str]:
    """The annotation files of all folds, or those with the patients of part ``held_out``."""
    return [
        f"fold{k}_{part}"
        for k in range(folds)
        for part in ("train", "val")
        if held_out is None or (part == "val") == (k == held_out)
    ]


def shared_groups(patients: Iterable[str], groups: Mapping[str, str]) -> dict[str, str]:
    """The groups of these patients, without groups of a single patient.

    A patient after whom others have named their group belongs to it.
    """
    patients, names = set(patients), set(groups.values())
    shared = {name: groups.get(name, name) for name in patients}
    return {name: group for name, group in shared.items() if name in groups or group in names}


def groups_by_patient(
    groups: Mapping[str, str], studies: Mapping[str, Iterable[str]]
) -> dict[str, str]:
    """Groups by patient, also if some are given by study UID.

    Raises:
        DataError: the studies of a patient have different groups.
    """
    found = dict(groups)
    for patient, own in studies.items():
        named = sorted({groups[name] for name in (patient, *own) if name in groups})
        if len(named) > 1:
            reason = f"its studies are in the groups {', '.join(named)}"
            raise DataError(patient, reason, "give them one group in --groups")
        if named:
            found[patient] = named[0]
    return found


def join_by_study(
    groups: Mapping[str, str], studies: Mapping[str, Iterable[str]]
) -> tuple[dict[str, str], list[str]]:
    """Join patients that have a study in common: it is one scan under two names.

    Args:
        groups: patient to group; others are their own group.
        studies: patient to the UIDs of its studies.

    Returns:
        The joined groups, and a description of what was joined.
    """
    joined = dict(groups)
    owners: dict[str, list[str]] = defaultdict(list)
    for patient in sorted(studies):
        for study in dict.fromkeys(studies[patient]):
            owners[study].append(patient)
    problems = []
    for study, patients in sorted(owners.items()):
        if len(patients) < 2:
            continue
        problems.append(
            f"study {study} belongs to patients {', '.join(patients)}; they are kept in one split: "
            "remove the copies, or give different scans UIDs of their own"
        )
        join(joined, patients)
    return joined, problems


def join(groups: dict[str, str], patients: Collection[str]) -> None:
    """Join the groups of some patients into one."""
    names = {groups.get(patient, patient) for patient in patients}
    members = [patient for patient, group in groups.items() if group in names]
    groups.update(dict.fromkeys([*members, *patients], min(names)))


def check_division(fractions: Sequence[float], folds: int) -> None:
    """Refuse impossible fractions and numbers of folds; 0 means no folds.

    Raises:
        ValueError: says what is wrong.
    """
    if len(fractions) != len(SPLITS) or min(fractions) < 0 or not sum(fractions) > 0:
        raise ValueError(
            f"a split has three fractions, none negative and not all 0, got {list(fractions)}"
        )
    if folds < 0 or folds == 1:
        raise ValueError(f"cross-validation needs at least 2 folds, got {folds}")


def _divide(
    has_pe: Mapping[str, bool | None],
    shares: Sequence[float],
    seed: int,
    groups: Mapping[str, str],
    fixed: Mapping[str, int],
) -> dict[str, int]:
    members: dict[str, list[str]] = defaultdict(list)
    for patient in sorted(has_pe):
        members[groups.get(patient, patient)].append(patient)
    strata = {name: _stratum([has_pe[patient] for patient in members[name]]) for name in members}
    sizes = {name: len(members[name]) for name in members}
    open_parts = [part for part, share in enumerate(shares) if share]
    part_of: dict[str, int] = {}
    # Number of patients each part lacks; each stratum starts with the rest of the ones before.
    missing = [0.0] * len(shares)
    for stratum in sorted(set(strata.values())):
        names = [name for name in members if strata[name] == stratum]
        count = sum(sizes[name] for name in names)
        missing = [lack + share * count for lack, share in zip(missing, shares, strict=True)]
        # Fixed groups first, then large ones, since small ones can still balance the rest; then in
        # random order.
        for name in sorted(
            names, key=lambda name: (name not in fixed, -sizes[name], _draw(seed, name))
        ):
            part = fixed.get(name, max(open_parts, key=lambda part: (missing[part], -part)))
            part_of[name] = part
            missing[part] -= sizes[name]
    _supply(part_of, strata, shares, seed, fixed, last=_UNKNOWN)
    _supply(part_of, strata, shares, seed, fixed, last=_UNKNOWN - 1)  # so that metrics are defined
    return {patient: part_of[name] for name in members for patient in members[name]}


def _supply(
    part_of: dict[str, int],
    strata: Mapping[str, int],
    shares: Sequence[float],
    seed: int,
    fixed: Collection[str],
    last: int,
) -> None:
    """Give each requested part without a group of the strata up to ``last`` one from the part
    with most of them; if possible an unknown group goes back in exchange."""
    for part, share in enumerate(shares):
        holders: dict[int, list[str]] = defaultdict(list)
        for name, owner in part_of.items():
            if strata[name] <= last:
                holders[owner].append(name)
        if not share or part in holders:
            continue
        able = {
            owner: names
            for owner, names in holders.items()
            if len(names) > 1 and set(names) - set(fixed)
        }
        if not able:
            return
        owner = max(able, key=lambda owner: (len(able[owner]), -owner))
        names = sorted(able[owner], key=lambda name: (strata[name], _draw(seed, name)))
        # Take one with embolism if the owner keeps another: without any, a split measures little.
        spare_positive = strata[names[1]] == 0
        free = [name for name in names if name not in fixed]
        back = [name for name, own in part_of.items() if own == part and name not in fixed]
        part_of[free[0] if spare_positive else free[-1]] = part
        if back:
            part_of[min(back, key=lambda name: _draw(seed, name))] = owner


def _stratum(values: Sequence[bool | None]) -> int:
    """0 for groups with embolism, 1 for those without, the last stratum if unknown."""
    if any(values):
        return 0
    return _UNKNOWN if any(value is None for value in values) else 1


def _draw(seed: int, name: str) -> str:
    return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()
