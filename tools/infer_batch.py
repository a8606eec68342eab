#!/usr/bin/env python
"""From a folder of CT studies to a report of each.

Every sub-folder of ROOT, and every zip, NIfTI or NRRD file in it, is a study. Where one holds
several, of several patients or dates, each is analysed. OUT gets a folder per study with the files
of tools/infer.py, and summary.csv. The same command goes on where it was
interrupted; a study that cannot be analysed is named and stops no other. Exit status 1 when any
failed.

Examples:
  tools/infer_batch.py /data/cases --checkpoint model.pth --out reports --workers 4
  tools/infer_batch.py /data/cases --checkpoint model.pth --out reports --scheduler tcp://10.0.0.5:8786
"""

import argparse
import sys
from pathlib import Path

from command_line import exit_on_user_error
from infer import NEW_KEY, add_model_arguments, predictor_settings, pseudonym_key
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from data_converters.core.cli import positive
from pe_unified.inference import AnalysisOptions
from pe_unified.inference.batch import analyse_many
from pe_unified.notice import RESEARCH_LINE
from pe_unified.workers import usable_cores


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", type=Path, help="folder of studies")
    add_model_arguments(parser)
    parser.add_argument(
        "--workers", type=positive, help="studies at a time, on CPUs; default: one per two cores"
    )
    parser.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="of a running Dask scheduler, whose workers see the same paths",
    )
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    console = Console()
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
    columns = (
        *(TextColumn("studies"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()),
        *(TextColumn("left"), TimeRemainingColumn()),
    )
    with exit_on_user_error(everything=True), Progress(*columns, console=console) as bar:
        task = bar.add_task("studies", total=None)

        def tell(done: int, total: int, last: str) -> None:
            bar.update(task, completed=done, total=total)
            if not last.endswith(": done"):
                bar.console.print(escape(last), highlight=False)

        summary = analyse_many(
            args.root.resolve(),
            args.out.resolve(),
            predictor_settings(args),
            options,
            workers,
            args.scheduler,
            max(1, cores // workers) if args.scheduler is None else None,
            tell,
        )
    failed = summary.failed
    done = len(summary.rows) - len(failed)
    print(f"{done} of {len(summary.rows)} studies analysed; {args.out / 'summary.csv'}")
    for row in failed:
        print(f"  {row['study']}: {row['reason']}", file=sys.stderr)
    print(f"{RESEARCH_LINE}.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
