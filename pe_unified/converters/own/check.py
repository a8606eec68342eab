"""Prints how a folder was understood, study by study, before anything is written."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pe_unified.converters.own.matching import StudyPlace
from pe_unified.converters.own.reader import OwnReader, StudyReading
from pe_unified.ct.temporary_folder import scratch_folder
from pe_unified.errors import DataError
from pe_unified.progress import track
from pe_unified.workers import in_order, open_executor

_PRELOAD = ("pe_unified.converters.own.check", "pydicom")
#: Width of the table if the output is not a terminal, columns.
_WIDTH = 160


@dataclass(frozen=True)
class StudyTold:
    """One line: a study in words.

    Attributes:
        scan, emboli, slices, exam: in words.
        error: the reason why it cannot be converted; None if it can.
    """

    name: str
    patient: str
    scan: str = ""
    emboli: str = ""
    slices: str = ""
    exam: str = ""
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    error: DataError | None = None


def tell_study(reader: OwnReader, place: StudyPlace) -> StudyTold:
    """Read a study as the conversion would, and describe it; run by workers."""
    try:
        with scratch_folder() as scratch:
            return _told(reader.read_study(place, scratch / "study"))
    except DataError as error:
        return StudyTold(place.name, place.patient, error=error)
    except Exception as error:  # one study's files must not end the check
        reason = f"study {place.name}: {type(error).__name__}: {error}"
        where, cure = place.found.path, "check that the file opens in other programs"
        return StudyTold(place.name, place.patient, error=DataError(where, reason, cure))


def _told(reading: StudyReading) -> StudyTold:
    place, study, labels = reading.place, reading.study, reading.labels
    kind = "DICOM" if study.sop_uids else "".join(place.found.path.suffixes[-2:]) or "volume"
    step = study.spacing_mm[2]
    scan = f"{kind}, {len(study)} slices" + (f" of {step:.3g} mm" if step else "")
    if reading.masks is not None:
        emboli = f"mask, {labels.positive_slices} slices ({place.masks[0].name})"
    elif reading.marks.boxes:
        count = sum(map(len, reading.marks.boxes.values()))
        emboli = f"{count} boxes on {len(reading.marks.boxes)} slices"
    else:
        emboli = {True: "unknown", False: "none", None: "unknown"}[labels.positive]
    unknown = len(study) - labels.known_slices
    slices = f"{labels.positive_slices} +, {labels.known_slices - labels.positive_slices} -"
    if unknown:
        slices += f", {unknown} ?"
    said = [name for name, value in sorted(labels.exam.items()) if value == 1]
    exam = {True: "PE", False: "no PE", None: "unknown"}[labels.positive]
    exam += "".join(f", {name}" for name in said if name != "negative_exam_for_pe")
    return StudyTold(
        place.name,
        place.patient,
        scan,
        emboli,
        slices,
        exam,
        tuple(reading.notes),
        tuple(reading.warnings),
        tuple(reading.problems),
    )


def check_folder(
    reader: OwnReader,
    places: Sequence[StudyPlace],
    problems: Sequence[str],
    notes: Sequence[str],
    raw: Path,
    workers: int,
) -> int:
    """Print how the folder was understood.

    Args:
        problems, notes: those that do not concern single studies.
        workers: processes that read.

    Returns:
        Exit status: 1 if something is wrong, else 0.
    """
    tasks = [(reader, place) for place in places]
    with open_executor(min(workers, max(1, len(tasks))), preload=_PRELOAD) as (executor, slots):
        answers = in_order(executor, slots, tell_study, tasks)
        told = list(track(answers, "reading studies", len(tasks)))
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, width=_WIDTH)
    table = Table(title=str(raw.name), title_justify="left")
    for name in ("study", "patient", "scan", "emboli", "slices", "exam", ""):
        table.add_column(name, overflow="fold")
    for each in told:
        state = "wrong" if each.error or each.problems else "doubtful" if each.warnings else "ok"
        table.add_row(
            each.name, each.patient, each.scan, each.emboli, each.slices, each.exam, state
        )
    console.print(table)
    lines = [(notes, "note: "), (problems, "wrong: ")]
    for each in told:
        of = f"{each.name} (patient {each.patient}): "
        lines += [
            (each.notes, f"note: {of}"),
            (each.warnings, f"doubtful: {of}"),
            (each.problems, f"wrong: {of}"),
            ([str(each.error)] if each.error else [], f"wrong: {of}"),
        ]
    for texts, start in lines:
        for line in texts:
            console.print(f"{start}{line}".replace(f"{raw}/", ""), soft_wrap=True)
    wrong = sum(bool(each.error or each.problems) for each in told)
    patients = {each.patient for each in told}
    masked = sum(each.emboli.startswith("mask") for each in told)
    silent = sum(each.exam.startswith("unknown") for each in told if not each.error)
    said = "Nothing is wrong" if told else "No study was found, see --help for what is read"
    if wrong or problems:
        said = f"Wrong: {wrong} studies, {len(problems)} other things"
    console.print(
        f"{len(told)} studies of {len(patients)} patients; {masked} with masks, "
        f"{silent} of unknown embolism. {said}. Nothing was written."
    )
    return 1 if wrong or problems or not told else 0
