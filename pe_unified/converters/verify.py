"""Check the format and the pixels of a converted folder.

Every slice decodes as 16-bit grayscale of the listed size; every mask decodes, has the listed area,
a tight box and one 8-connected component; the HU under the masks are those of emboli (not checked
if a set was converted with --no-hu-check); labels agree with each other; splits and folds share
no patient and no group; everything that the report lists is there, and nothing else. Prints each
fault, and exits with 1 if there is any. Warnings name what is doubtful but may be right: exams
whose labels break a rule of RSNA-STR PE, and warnings of the conversion.

    pe-unified verify DATA --workers 8
"""

import argparse
import os
import sys
from pathlib import Path

from pe_unified.converters.command_line import add_workers, command
from pe_unified.converters.inspection import inspect_set


def verify(root: str | os.PathLike, workers: int = 1) -> list[str]:
    """All faults of a converted folder, each naming the file or the patient; empty if it is valid.

    Args:
        root: the dataset folder.
        workers: processes that decode the pixels.
    """
    return [fault.text for fault in inspect_set(root, workers).faults]


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", metavar="DATA", type=Path, help="a converted folder")
    add_workers(parser)
    parser.add_argument(
        "--show", type=int, default=50, metavar="N", help="faults to print (default: %(default)s)"
    )
    return parser


@command
def main() -> int:
    args = make_parser().parse_args()
    if not args.root.is_dir():
        print(f"error: no folder at {args.root}", file=sys.stderr)
        return 2
    found = inspect_set(args.root, args.workers)
    faults = [fault.text for fault in found.faults]
    warnings = [f"warning: {warning.text}" for warning in found.warnings]
    for lines in (faults, warnings):
        for line in lines[: args.show]:
            print(line)
        if len(lines) > args.show:
            print(f"and {len(lines) - args.show} more")
    warned = f", {len(warnings)} warnings" if warnings else ""
    print(f"{args.root}: {f'{len(faults)} faults' if faults else 'no fault'}{warned}")
    return 1 if faults else 0
