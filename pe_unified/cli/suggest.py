"""Rank unread studies by how much reading them would teach a model.

REPORTS is a folder written by `pe-unified infer` or `pe-unified batch`. A study ranks high if the
model is near its thresholds (of the exam, of lesions), and if its heads disagree about slices and
lesions; docs/review.md has the formula. Writes a table with every term of it, and prints the first
rows.

Exit status 1: some reports cannot be read; each is named, and the others are ranked.

Examples:
  pe-unified suggest reports/
  pe-unified suggest reports/ --number 20 --out next.csv
"""

import argparse
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pe_unified.command import exit_on_user_error
from pe_unified.options import positive


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("reports", metavar="REPORTS", type=Path, help="folder of the reports")
    parser.add_argument(
        "--out", type=Path, metavar="CSV", help="the table (default: REPORTS/suggest.csv)"
    )
    parser.add_argument("--number", type=positive, default=10, metavar="N", help="rows shown (10)")
    parser.add_argument("--all", action="store_true", help="also rank studies that have been read")
    return parser


@exit_on_user_error()
def main() -> int:
    args = make_parser().parse_args()
    from pe_unified.review.suggest import suggest

    out = args.out or args.reports / "suggest.csv"
    rows, faults = suggest(args.reports, out, args.all)
    columns = ("rank", "folder", "worth", "exam", "lesions", "slices", "heads")
    table = Table(*columns, title=f"{len(rows)} studies to read")
    for row in rows[: args.number]:
        table.add_row(*(str(row[name]) for name in columns))
    Console().print(table)
    print(f"all of them in {out}")
    for fault in faults:
        print(f"  {fault}", file=sys.stderr)
    return 1 if faults else 0
