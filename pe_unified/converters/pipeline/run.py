"""Runs a conversion: patients over workers, finished ones kept, the data set assembled last."""

import os
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pe_unified.converters.contract.known_splits import KnownSplits
from pe_unified.converters.contract.schema import CONVERTER_VERSION, info_entry, own_folder
from pe_unified.converters.contract.splits import (
    SPLITS,
    assign_folds,
    assign_splits,
    check_division,
    fold_names,
    groups_by_patient,
    join_by_study,
    shared_groups,
)
from pe_unified.converters.pipeline import worker as work
from pe_unified.converters.pipeline.assemble import totals_of, write_annotations
from pe_unified.converters.pipeline.plan import Converter, PatientPlan, PatientSource
from pe_unified.converters.pipeline.raw_folders import painted_folders
from pe_unified.converters.pipeline.store import Store
from pe_unified.converters.pipeline.worker import PRELOAD
from pe_unified.errors import DataError, listed
from pe_unified.json_files import write_json
from pe_unified.progress import phase, quietly, say, tell, track
from pe_unified.workers import Task, as_they_end, died_between, open_executor

#: Slices per task: enough to hide its overhead, few enough to distribute one patient.
_CHUNK = 24
REPORT = "conversion_report.json"


@dataclass(frozen=True)
class RunOptions:
    """How to run, and how to split the patients.

    Attributes:
        workers: processes; 1 works in this process.
        scheduler: address of a Dask scheduler to use instead.
        seed, split, folds, groups: see :mod:`pe_unified.converters.contract.splits`; ``folds`` 0
            writes none. Folds divide the patients outside the test split.
        every_group_known: a name in ``groups`` that is not a patient's is a problem.
        known: splits of other sets, which are also used here for the patients found there.
        quiet: no progress.
    """

    workers: int = 1
    scheduler: str | None = None
    seed: int = 0
    split: tuple[float, float, float] = (0.7, 0.15, 0.15)
    folds: int = 0
    groups: Mapping[str, str] = field(default_factory=dict)
    every_group_known: bool = False
    known: KnownSplits = field(default_factory=KnownSplits)
    quiet: bool = False

    def __post_init__(self) -> None:
        check_division(self.split, self.folds)


@dataclass
class _Patient:
    """A patient in progress."""

    source: PatientSource
    folder: str
    slices: Path
    scratch: Path
    plan: PatientPlan | None = None
    results: list[work.ChunkResult | None] = field(default_factory=list)


class _Run:
    """Feeds the executor and collects results; holds few patients at a time."""

    def __init__(self, converter: Converter, store: Store):
        self.converter, self.store = converter, store
        self.title = f"{converter.name}, patients"
        self.entries: dict[str, dict[str, Any]] = {}
        self.has_pe: dict[str, bool | None] = {}
        self.studies: dict[str, list[str]] = {}
        #: Folders of synthetic patients.
        self.painted: set[str] = set()
        self._next: deque[Task] = deque()
        self._active = self._slices = 0
        self._start = time.monotonic()

    def work_through(self, executor: Executor, slots: int) -> None:
        sources = self._unfinished()
        self._tell()

        def ready() -> Task | None:
            patient = next(sources, None) if self._active < slots + 2 else None
            if patient is None:
                return self._next.popleft() if self._next else None
            self._active += 1
            arguments = (self.converter.reader, patient.source, patient.scratch)
            return Task(("plan", patient, 0), work.plan_patient, arguments)

        # More tasks than slots, so that no worker waits for this process.
        for (kind, patient, index), future in as_they_end(executor, 2 * slots, ready):
            self._receive(slots, kind, patient, index, future.result())

    def _unfinished(self) -> Iterator[_Patient]:
        folders: set[str] = set()
        painted = painted_folders(self.converter.raw)
        for source in self.converter.patients():
            folder = own_folder(source.patient_id, folders)
            in_painted = source.slices is not None and any(
                map(source.slices.is_relative_to, painted)
            )
            if source.painted or in_painted:
                self.painted.add(folder)
            if not _is_text(source.patient_id):
                problem = DataError(source.patient_id, "the name is not UTF-8", "rename it")
                source = replace(source, problem=problem)
            if source.problem is None and self.store.is_finished(folder, source.signature):
                record = self.store.read_record(folder)
                assert record is not None
                self._note(folder, record)
                continue
            yield _Patient(source, folder, *self.store.begin(folder))
        self.store.keep_only(folders)

    def _receive(self, slots: int, kind: str, patient: _Patient, index: int, result: Any) -> None:
        if isinstance(result, DataError):
            self._skip(patient, result)
        elif kind == "plan":
            self._start_chunks(slots, patient, result)
        elif kind == "chunk":
            patient.results[index] = result
            self._slices += len(result.sizes)
            self._tell()
            if all(part is not None for part in patient.results):
                whole = self.converter.reader.whole_patients
                arguments = (patient.plan, patient.folder, patient.results, whole)
                self._next.appendleft(Task(("finish", patient, 0), work.finish_patient, arguments))
        else:
            entry = _relative_to(self.converter.raw, result["patient"])
            record = {**result, "patient": entry}
            self.store.commit(patient.folder, patient.slices, patient.source.signature, record)
            self._active -= 1
            self._note(patient.folder, record)

    def _start_chunks(self, slots: int, patient: _Patient, plan: PatientPlan) -> None:
        patient.plan = plan
        items = [(plan.studies[number].spacing_mm, item) for number, item in plan.slices()]
        size = max(4, min(_CHUNK, -(-len(items) // slots)))
        chunks = [items[start : start + size] for start in range(0, len(items), size)]
        patient.results = [None] * len(chunks)
        for index, chunk in enumerate(chunks):
            arguments = (self.converter.reader, chunk, patient.slices)
            self._next.append(Task(("chunk", patient, index), work.convert_chunk, arguments))

    def _note(self, folder: str, record: Mapping[str, Any]) -> None:
        self.entries[folder] = record["patient"]
        patient = record["patient"]["patient_id"]
        self.has_pe[patient] = record["has_pe"]
        self.studies[patient] = [exam["study_uid"] for exam in record["exams"]]
        self._tell()

    def _skip(self, patient: _Patient, error: DataError) -> None:
        self._active -= 1
        self.store.abandon(patient.folder, patient.slices)
        entry = {
            "patient_id": patient.source.patient_id,
            "status": "skipped",
            "reason": f"{error.where}: {error.reason}",
            "cure": error.cure,
            "slices": 0,
            "positive_slices": 0,
            "annotations": 0,
        }
        self.entries[patient.folder] = _relative_to(self.converter.raw, entry)
        say(f"skipped {patient.source.patient_id}: {error}")
        self._tell()

    def _tell(self) -> None:
        rate = self._slices / max(1e-9, time.monotonic() - self._start)
        state = f"{self._slices} slices, {rate:.0f} slices/s"
        tell(self.title, len(self.entries), len(self.converter), state)


def convert(converter: Converter, out: str | os.PathLike, options: RunOptions) -> dict[str, Any]:
    """Convert a raw set into a dataset folder.

    Patients that an earlier, perhaps killed, run finished are kept if they were converted from
    the same files with the same options.

    Returns:
        The report, as written to ``conversion_report.json``.

    Raises:
        DataError: the folder cannot be used, or there are no patients.
        ValueError: more folds than patients.
    """
    if Path(out).resolve().is_relative_to(converter.raw.resolve()):
        cure = "choose one outside; otherwise the next run takes what is written there for patients"
        raise DataError(Path(out), "is a folder of the raw set", cure)
    total = len(converter)
    if not total:
        cure = "see --help for the layout expected"
        known = listed(converter.problems(), between="; ")
        raise DataError(converter.raw, "no patients found", cure, known)
    if options.folds > total:
        raise ValueError(f"{options.folds} folds need as many patients; there are {total}")
    store = Store(Path(out).resolve(), converter.name, _work_options(converter))
    with store.open(), quietly(options.quiet):
        run = _Run(converter, store)
        with (
            phase(run.title),
            open_executor(options.workers, options.scheduler, PRELOAD) as (executor, slots),
        ):
            try:
                run.work_through(executor, slots)
            except Exception as error:
                if not _is_lost_worker(error):
                    raise
                raise died_between("--workers") from error
        everyone = (entry["patient_id"] for entry in run.entries.values())
        groups = shared_groups(everyone, groups_by_patient(options.groups, run.studies))
        groups, problems = join_by_study(groups, run.studies)
        if options.every_group_known:
            problems += _unknown_in_groups(options.groups, run)
        undivided, notes = _assemble(converter, store, run, options, groups)
        report = _report(converter, store, run, groups, problems + undivided, notes)
        with phase("tidying up"):
            store.sweep()
        return report


def _is_text(name: str) -> bool:
    """Whether a name can be written as UTF-8; undecodable bytes cannot."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _unknown_in_groups(groups: Mapping[str, str], run: _Run) -> list[str]:
    """Names in ``groups`` without a patient: a misspelt one would be separated from its group."""
    known = {entry["patient_id"] for entry in run.entries.values()}
    unknown = sorted(set(groups) - known - {study for own in run.studies.values() for study in own})
    if not unknown:
        return []
    return [f"--groups names {', '.join(unknown)}, no patient of this set; check the spelling"]


def _is_lost_worker(error: Exception) -> bool:
    """Whether a task failed because its worker died: errors of the data are not raised."""
    from_cluster = type(error).__module__.split(".")[0] == "distributed"
    return from_cluster or isinstance(error, BrokenExecutor | CancelledError)


def _work_options(converter: Converter) -> dict[str, Any]:
    return {"converter_version": CONVERTER_VERSION, **converter.options()}


def _assemble(
    converter: Converter,
    store: Store,
    run: _Run,
    options: RunOptions,
    groups: Mapping[str, str],
) -> tuple[list[str], list[str]]:
    """Write the annotations; returns problems and notes on requests that could not be met."""
    problems = []
    fixed = options.known.place(run.studies, groups)
    splits = assign_splits(run.has_pe, options.split, options.seed, groups, fixed)
    parts = {patient: [split] for patient, split in splits.items()}
    outside = {patient: run.has_pe[patient] for patient in parts if splits[patient] != "test"}
    try:
        folds = assign_folds(outside, options.folds, options.seed, groups) if options.folds else {}
    except ValueError as error:
        folds = {}
        problems.append(f"no folds written: outside the test split, {error}")
    names = [*SPLITS, *(fold_names(options.folds) if folds else ())]
    for patient, own in folds.items():
        parts[patient] += fold_names(options.folds, own)
    converted = sorted(name for name in run.entries if run.entries[name]["status"] == "converted")
    painted = run.painted.intersection(converted)
    info = info_entry(
        **converter.info(),
        options={
            "converter": converter.name,
            **converter.options(),
            "split_seed": options.seed,
            "split": list(options.split),
            "folds": options.folds,
            "synthetic": "in part" if 0 < len(painted) < len(converted) else bool(painted),
            **({"splits_of": options.known.sets} if options.known.sets else {}),
        },
    )
    records = (
        _record(store, name, groups, name in painted)
        for name in track(converted, "writing annotations")
    )
    write_annotations(store.root, records, parts, names, info)
    empty = [
        f"no patient is left for {split}; see --split"
        for split, share in zip(SPLITS, options.split)
        if share and converted and split not in splits.values()
    ]
    unknown = [
        f"no slice label is known in {split}, so slices cannot be measured there; see --split"
        for split in SPLITS
        if {run.has_pe[patient] for patient in splits if splits[patient] == split} == {None}
    ]
    return problems, empty + unknown


def _record(store: Store, folder: str, groups: Mapping[str, str], painted: bool) -> dict[str, Any]:
    """A finished patient. The group is not stored with it, since another run may change it."""
    record = store.read_record(folder)
    if record is None:
        raise DataError(store.records / folder, "the record vanished", "run the command again")
    images = [_grouped(image, groups) for image in record["images"]]
    if painted:
        images = [{**image, "synthetic": True} for image in images]
    return {**record, "images": images}


def _grouped(entry: Mapping[str, Any], groups: Mapping[str, str]) -> dict[str, Any]:
    """An entry with the group of its patient, if there is one."""
    patient = entry["patient_id"]
    return {**entry, "group": groups[patient]} if patient in groups else dict(entry)


def _report(
    converter: Converter,
    store: Store,
    run: _Run,
    groups: Mapping[str, str],
    problems: Sequence[str],
    notes: Sequence[str],
) -> dict[str, Any]:
    entries = [_grouped(run.entries[folder], groups) for folder in sorted(run.entries)]
    painted = {run.entries[folder]["patient_id"] for folder in run.painted}
    report = {
        "converter": converter.name,
        "converter_version": CONVERTER_VERSION,
        "options": converter.options(),
        "totals": totals_of(entries, painted),
        "problems": _relative_to(converter.raw, [*converter.problems(), *problems]),
        "notes": list(notes),
        "patients": entries,
    }
    write_json(store.root / REPORT, report)
    return report


def report_faults(report: Mapping[str, Any]) -> list[str]:
    """Everything in a report that makes a run fail unless skips are allowed."""
    faults = list(report["problems"])
    for entry in report["patients"]:
        if entry["status"] != "converted":
            faults.append(f"{entry['patient_id']} skipped: {entry['reason']}; {entry['cure']}")
        faults += [f"{entry['patient_id']}: {problem}" for problem in entry.get("problems", ())]
    return faults


def report_warnings(report: Mapping[str, Any]) -> list[str]:
    """Doubtful entries of a report that may be right."""
    return [
        f"{entry['patient_id']}: {warning}"
        for entry in report["patients"]
        for warning in entry.get("warnings", ())
    ]


def _relative_to(raw: Path, value: Any) -> Any:
    """The same value, with paths in its texts made relative to the raw folder."""
    if isinstance(value, str):
        return value.replace(f"{raw}{os.sep}", "")
    if isinstance(value, dict):
        return {key: _relative_to(raw, item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [_relative_to(raw, item) for item in value]
    return value
