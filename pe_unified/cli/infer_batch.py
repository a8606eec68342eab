"""Analyse a folder of CT studies and write a report for each.

Every sub-folder of ROOT, and every volume file, archive or multi-frame CT in it, is a study; other
files are listed and skipped. If one holds several studies, of several patients or dates, each is
analysed. OUT gets a folder per study with the files of pe-unified infer, and summary.csv. After an
interruption, the same command resumes. A study that cannot be analysed is named and does not stop
the others. The exit status is 1 if any failed.

Examples:
  pe-unified batch /data/cases --checkpoint model.pth --out reports --workers 4
  pe-unified batch /data/cases --checkpoint model.pth --out reports --scheduler tcp://10.0.0.5:8786
"""

import argparse
import sys
from pathlib import Path

from pe_unified.cli.infer import NEW_KEY, add_model_arguments, predictor_settings, pseudonym_key
from pe_unified.command import exit_on_user_error
from pe_unified.disclaimer import RESEARCH_LINE
from pe_unified.options import STUDY_ENDINGS, positive
from pe_unified.progress import say, tell
from pe_unified.workers import usable_cores

#: Names written out of the files that are skipped.
_NAMED = 10


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "root",
        type=Path,
        help=f"folder of sub-folders, of multi-frame CT and of files ending in {STUDY_ENDINGS}",
    )
    add_model_arguments(parser)
    parser.add_argument(
        "--workers", type=positive, help="studies at a time, on CPUs; default: one per two cores"
    )
    parser.add_argument(
        "--missing",
        action="store_true",
        help="analyse only studies without a report, whatever model made the reports there",
    )
    parser.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="address of a running Dask scheduler; its workers need the same paths",
    )
    return parser


@exit_on_user_error(everything=True, goes_on="run the same command again to continue")
def main() -> int:
    args = make_parser().parse_args()
    from pe_unified.reports.analysis import AnalysisOptions
    from pe_unified.reports.batch import analyse_many

    cores = usable_cores()
    workers = args.workers or max(1, cores // 2)
    key = pseudonym_key() if args.pseudonymise else None
    if args.pseudonymise and key is None:
        sys.exit(
            f"error: --pseudonymise needs a secret that stays the same from run to run: {NEW_KEY}"
        )
    options = AnalysisOptions(
        every_slice=args.every_slice,
        pseudonym_key=key,
        lungs_from=args.lungs,
        lung_mask=args.lung_mask,
    )

    def show(done: int, total: int, last: str) -> None:
        tell("studies", done, total)
        if not last.endswith(": done"):
            say(last)

    summary = analyse_many(
        args.root.resolve(),
        args.out.resolve(),
        predictor_settings(args),
        options,
        workers,
        args.scheduler,
        max(1, cores // workers) if args.scheduler is None else None,
        show,
        args.missing,
    )
    failed = summary.failed
    done = len(summary.rows) - len(failed)
    print(f"{done} of {len(summary.rows)} studies analysed; {args.out / 'summary.csv'}")
    if summary.skipped:
        print(_skipped(summary.skipped, hidden=args.pseudonymise))
    for column, which in (("training", "this model"), ("exam_model_training", "the exam model")):
        for line in sorted({row[column] for row in summary.rows if row[column]}):
            print(f"{which}: {line}")
    for row in failed:
        print(f"  {row['study']}: {row['reason']}", file=sys.stderr)
    print(f"{RESEARCH_LINE}.")
    return 1 if failed else 0


def _skipped(names: list[str], hidden: bool) -> str:
    """In one line; no name where none may leave."""
    named = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
    which = "" if hidden else f" ({named})"
    return f"skipped {len(names)} files{which}: neither folders, volume files nor archives"
