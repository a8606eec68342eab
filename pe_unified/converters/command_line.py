"""The command line that all converters share."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pe_unified.command import exit_on_user_error
from pe_unified.converters.contract.known_splits import read_splits
from pe_unified.converters.pipeline.plan import Converter
from pe_unified.converters.pipeline.raw_folders import MANIFEST
from pe_unified.converters.pipeline.run import (
    REPORT,
    RunOptions,
    convert,
    report_faults,
    report_warnings,
)
from pe_unified.errors import DataError
from pe_unified.options import positive
from pe_unified.paths import require_apart, require_there
from pe_unified.progress import phase, show_progress_by
from pe_unified.workers import usable_cores

_EPILOG = """\
OUT then holds images/<patient>/<nnnn>.png (16 bit, HU + 1024), annotations/{train,val,test}.json
(COCO), and conversion_report.json, which lists every patient. If the run is interrupted, the
same command continues it where it stopped; the result has the same bytes. Exit status 1 means
that something was skipped or is wrong; the report says what, and what to do.
"""
#: Anatomy that is generated anew for every study.
_PROCEDURAL = "procedural"
#: Number of faults that are printed; the report has the rest.
_SHOWN = 20


def make_parser(
    description: str, raw_help: str, may_check: bool = False
) -> argparse.ArgumentParser:
    """A parser with RAW, OUT and the options that every converter has.

    ``may_check``: also ``--check``, with which OUT may be omitted.
    """
    parser = argparse.ArgumentParser(
        description=description,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("raw", metavar="RAW", type=Path, help=raw_help)
    parser.add_argument(
        "out",
        metavar="OUT",
        type=Path,
        nargs="?" if may_check else None,
        help="the data set's folder; made here",
    )
    if may_check:
        parser.add_argument(
            "--check",
            action="store_true",
            help="write nothing, print what was understood; exit with 1 if something is wrong",
        )
    add_workers(parser)
    parser.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="work on the cluster of this running Dask scheduler, e.g. tcp://host:8786; its "
        "workers must see RAW and OUT under the same paths",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="of the splits and, for rsna, of the subset (default: %(default)s)",
    )
    parser.add_argument(
        "--split",
        type=float,
        nargs=3,
        metavar=("TRAIN", "VAL", "TEST"),
        default=(0.7, 0.15, 0.15),
        help="shares of the patients (default: 0.7 0.15 0.15)",
    )
    add_folds(parser)
    parser.add_argument(
        "--groups",
        type=Path,
        metavar="FILE.json",
        help="a mapping of patient to group; a group is never divided between splits "
        "(default: the anatomies listed in RAW/phantom.json, where there is one)",
    )
    parser.add_argument(
        "--splits-of",
        type=Path,
        action="append",
        default=[],
        metavar="DATA",
        help="a converted set: its patients and groups get the split here that they have there, "
        "the others are divided as usual, so that both sets can be merged; may be given "
        "more than once",
    )
    parser.add_argument(
        "--allow-skips",
        action="store_true",
        help="exit with 0 although patients were skipped or problems found",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress")
    return parser


def add_folds(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--folds",
        type=int,
        default=0,
        metavar="K",
        help="also write fold<i>_train.json and fold<i>_val.json, i = 0 .. K-1, over the patients "
        "outside the test split",
    )


def add_workers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workers",
        type=positive,
        default=usable_cores(),
        help="processes to work with (default: the cores of this machine, %(default)s)",
    )


def add_hu_check(parser: argparse.ArgumentParser) -> None:
    """Add the option of sets that have masks."""
    parser.add_argument(
        "--no-hu-check",
        action="store_true",
        help="convert patients although the HU under the masks are not those of emboli",
    )


def run_options(args: argparse.Namespace, part: bool = False) -> RunOptions:
    """The shared options from parsed arguments.

    ``part``: only a subset is converted; ``groups`` may then name patients of the whole set.
    """
    return RunOptions(
        workers=args.workers,
        scheduler=args.scheduler,
        seed=args.seed,
        split=tuple(args.split),
        folds=args.folds,
        groups=read_groups(args.raw, args.groups),
        every_group_known=args.groups is not None and not part,
        known=read_splits(args.splits_of, args.out),
    )


def read_groups(raw: Path, groups: Path | None) -> dict[str, str]:
    """Patient to group, from a file or from the manifest of synthetic studies."""
    path = groups or raw / MANIFEST
    if groups is None and not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DataError(path, "cannot be read", "check the path", error) from error
    except ValueError as error:
        raise DataError(path, "cannot be read", "give a JSON object", error) from error
    if groups is None:
        return manifest_groups(content)
    if not isinstance(content, dict) or not all(isinstance(v, str) for v in content.values()):
        raise DataError(path, "is not an object of patient: group", "write one text per patient")
    return content


def manifest_groups(manifest: dict) -> dict[str, str]:
    """Patient to anatomy, from the manifest of the phantom command.

    Studies painted on the body of the same real patient belong together; generated bodies are all
    different.
    """
    groups = {}
    for study in manifest.get("studies", ()):
        anatomy = study.get("anatomy", _PROCEDURAL)
        if anatomy != _PROCEDURAL:
            groups[study["patient_id"]] = anatomy
            # Sets without patient identifiers name their patients by study.
            groups[study.get("study_uid", study["patient_id"])] = anatomy
    return groups


#: Wraps every command here; a ValueError means wrong options.
command = exit_on_user_error(
    status=2, goes_on="run the same command again to continue", also=(ValueError,)
)


@command
def main(
    make: Callable[[argparse.Namespace], Converter],
    parser: argparse.ArgumentParser,
    is_part: Callable[[argparse.Namespace], bool] = lambda args: False,
    settle: Callable[[Any, RunOptions], RunOptions] = lambda converter, options: options,
    check: Callable[[Any, argparse.Namespace], int] | None = None,
) -> int:
    """Run a converter's command line; returns the exit status.

    Args:
        settle: adds the splits and groups that the raw set itself defines to the options.
        check: called instead of converting if ``--check`` is given; returns the exit status.
    """
    args = parser.parse_args()
    args.raw = args.raw.resolve()
    if args.quiet:
        show_progress_by(None)
    dry = check is not None and args.check
    if args.out is None and not dry:
        parser.error("give OUT, the data set's folder, or --check")
    if args.out is None:
        require_there(args.raw)
    else:
        require_apart(args.out, args.raw)
    if not args.raw.is_dir():
        raise DataError(args.raw, "a file, not a folder", "point to the folder of the set")
    if check is not None and dry:
        return check(make(args), args)
    options = run_options(args, is_part(args))
    with phase("listing the raw set"):
        converter = make(args)
    report = convert(converter, args.out, settle(converter, options))
    totals = report["totals"]
    painted = totals["synthetic_patients"]
    print(
        f"{totals['converted']} of {totals['patients']} patients converted to {args.out}: "
        f"{totals['slices']} slices, {totals['positive_slices']} with an embolus, "
        f"{totals['annotations']} annotations"
        + (
            f"; {painted} of the patients are synthetic: painted, not real patients"
            if painted
            else ""
        )
    )
    for note in report["notes"]:
        print(f"  {note}", file=sys.stderr)
    noted = sum(bool(entry.get("notes")) for entry in report["patients"])
    if noted:
        print(f"  notes on {noted} patients are in {args.out / REPORT}", file=sys.stderr)
    warnings = [f"warning: {each}" for each in report_warnings(report)]
    faults = report_faults(report)
    for lines, what in ((warnings, "more warnings"), (faults, "more")):
        for line in lines[:_SHOWN]:
            print(f"  {line}", file=sys.stderr)
        if len(lines) > _SHOWN:
            rest = len(lines) - _SHOWN
            print(f"  and {rest} {what}, see {args.out / REPORT}", file=sys.stderr)
    if not totals["converted"]:
        return 1
    return 1 if faults and not args.allow_skips else 0
