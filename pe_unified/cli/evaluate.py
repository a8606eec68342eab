"""Score masks, probability maps or marks of any system against reference masks.

PRED and REF are folders of NIfTI, NRRD or DICOM SEG (or of folders with mask.nii.gz, as `pe-unified
batch` writes them); PRED may also hold nnU-Net's .npz probabilities, or be a file of marks. Names
are paired without endings, `_0000` and `RefStd`, or by --pairs. Writes results.json, cases.csv,
results.md and froc.png: lesions found against false positives per scan (FROC), precision, recall
and F1 of lesions, Dice, ASSD, NSD, HD95, volume error, with intervals over scans, and the rules.

Marks are derived from components, or read from a file: a CSV id,x,y,z,prob in LPS mm, or lines of
the CAD-PE challenge, `scan x y z confidence`, in pixels.

Exit status 1: nothing could be scored, or a file was damaged (the others are scored).

Examples:
  pe-unified evaluate predictions/ labelsTs/ --out results
  pe-unified evaluate predictions/ labelsTs/ --against nnunet/ --missing empty --out results
  pe-unified evaluate marks.csv CAD-PE/rs --instances --out results
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from pe_unified.command import exit_on_user_error
from pe_unified.errors import UserError
from pe_unified.options import positive, share
from pe_unified.workers import usable_cores

if TYPE_CHECKING:
    from pe_unified.evaluation.masks.case_files import System
    from pe_unified.evaluation.masks.rules import Rules

#: Columns of the table where it is written to no terminal.
_WIDTH = 120


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pred", metavar="PRED", type=Path, help="predictions, or a file of marks")
    parser.add_argument("ref", metavar="REF", type=Path, help="folder of the reference masks")
    parser.add_argument("--out", required=True, type=Path, help="folder of the results")
    parser.add_argument("--marks", type=Path, help="marks of PRED, instead of those of its masks")
    parser.add_argument("--against", type=Path, metavar="PRED2", help="a second system")
    parser.add_argument("--against-marks", type=Path, metavar="MARKS2", help="its marks")
    parser.add_argument("--names", nargs="+", help="names of the systems (default: their folders')")
    parser.add_argument(
        "--mark-unit",
        choices=["lps", "pixel"],
        help="unit of marks (default: lps, in mm, with a header; pixel, from 0, without)",
    )
    parser.add_argument("--pairs", type=Path, metavar="CSV", help="pairs by hand: case,prediction")
    parser.add_argument(
        "--missing",
        choices=["refuse", "empty", "leave-out"],
        default="refuse",
        help="a case without a prediction: refuse, count as empty, or do not score",
    )
    parser.add_argument(
        "--groups",
        type=Path,
        metavar="FILE",
        help="CSV case,group, or JSON: scans of one patient; intervals are over groups",
    )
    rules = parser.add_argument_group("rules, all printed with the result")
    rules.add_argument("--connectivity", type=int, choices=[6, 18, 26], default=26)
    rules.add_argument(
        "--instances", action="store_true", help="the numbers in REF are its lesions, as in CAD-PE"
    )
    rules.add_argument("--smallest", type=float, metavar="MM3", help="smallest lesion (default 10)")
    rules.add_argument(
        "--epsilon", type=float, nargs="+", metavar="MM", help="distance of marks (default: 0 2 5)"
    )
    rules.add_argument(
        "--rates", type=float, nargs="+", metavar="FP", help="FP per scan (default: 0.5 1 2 4 6)"
    )
    rules.add_argument(
        "--threshold", type=share, default=0.5, help="of probabilities, for masks (default: 0.5)"
    )
    rules.add_argument(
        "--mark-threshold", type=share, help="of probabilities, for marks (default: --threshold)"
    )
    rules.add_argument(
        "--tolerance", type=float, default=1.0, metavar="MM", help="tolerance of NSD (default: 1)"
    )
    rules.add_argument(
        "--by-index",
        action="store_true",
        help="match masks of the same shape voxel by voxel and ignore their headers",
    )
    rules.add_argument(
        "--intervals",
        choices=["bootstrap", "jackknife"],
        default="bootstrap",
        help="bootstrap: 1000 draws, as is common; jackknife: more reliable with few scans",
    )
    parser.add_argument("--note", default="", help="text in the figure, such as 'synthetic data'")
    parser.add_argument(
        "--workers", type=positive, default=usable_cores(), help="processes (default: %(default)s)"
    )
    return parser


@exit_on_user_error()
def main() -> int:
    args = make_parser().parse_args()
    from pe_unified.evaluation.masks.case_files import find_references, find_system
    from pe_unified.evaluation.masks.folders import evaluate_folders, read_groups
    from pe_unified.evaluation.masks.result_files import terminal_table, write_results
    from pe_unified.paths import require_apart

    paths = [args.pred, *([args.against] if args.against else [])]
    require_apart(args.out, args.ref, *(path for path in paths if path.is_dir()))
    references = find_references(args.ref)
    groups = read_groups(args.groups, references) if args.groups else {}
    systems = [
        find_system(path, references, marks, args.mark_unit, args.pairs)
        for path, marks in zip(paths, (args.marks, args.against_marks))
    ]
    result = evaluate_folders(
        references,
        _named(systems, args.names),
        _rules(args),
        args.missing,
        groups,
        args.workers,
        args.intervals,
    )
    write_results(result, args.out, args.note)
    Console(width=None if sys.stdout.isatty() else _WIDTH).print(terminal_table(result))
    for error in result.damaged.values():
        print(f"not scored: {error}", file=sys.stderr)
    print(f"results written to {args.out}")
    return 1 if result.damaged else 0


def _named(systems: list["System"], names: list[str] | None) -> list["System"]:
    """The systems, no two of one name."""
    if names and len(names) != len(systems):
        raise UserError(f"--names has {len(names)} names for {len(systems)} systems")
    told = names or [system.name for system in systems]
    if len(set(told)) < len(told):
        raise UserError(f"both systems are called {told[0]}; tell them apart by --names")
    return [replace(system, name=name) for system, name in zip(systems, told, strict=True)]


def _rules(args: argparse.Namespace) -> "Rules":
    from pe_unified.evaluation.masks.rules import Rules

    given = {
        "epsilons_mm": tuple(sorted(args.epsilon)) if args.epsilon else None,
        "smallest_mm3": args.smallest,
        "rates": tuple(sorted(args.rates)) if args.rates else None,
        "mark_threshold": (args.threshold if args.mark_threshold is None else args.mark_threshold),
    }
    return Rules(
        connectivity=args.connectivity,
        instances=args.instances,
        threshold=args.threshold,
        tolerance_mm=args.tolerance,
        by_index=args.by_index,
        **{name: value for name, value in given.items() if value is not None},
    )
