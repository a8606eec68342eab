"""Check whether a converted set can be trusted: one page with pictures, and audit.json.

Errors: all faults of pe-unified verify (patients, groups, studies or slices in two splits; labels
that contradict each other; masks on tissue that is not embolus), series in two splits, and the
same image in slices of two patients in different splits. Warnings (the data may be correct):
probable labelling errors, patients that may be the same person, unusual spacing or orientation,
splits without a class. The exit status is 1 if there is an error.

Examples:
  pe-unified audit data/pe
  pe-unified audit data/pe --out work_dirs/audit --workers 8
"""

import argparse
import sys
from pathlib import Path

from pe_unified.command import exit_on_user_error
from pe_unified.options import positive
from pe_unified.paths import require_apart


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="a converted folder")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="default: work_dirs/audit_<name of the folder>"
    )
    parser.add_argument("--workers", type=positive, default=1, help="processes that read slices")
    return parser


@exit_on_user_error()
def main() -> None:
    args = make_parser().parse_args()
    out = args.out or Path("work_dirs", f"audit_{args.data.resolve().name}")
    require_apart(out, args.data)
    from pe_unified.audit import audit

    found = audit(args.data, out, args.workers)
    for finding in found["findings"]:
        print(f"{finding['severity']}: {finding['check']}: {finding['text']}")
    print(f"{args.data}: {found['verdict']}")
    print(f"open {out / 'index.html'}")
    if found["errors"]:
        sys.exit(1)
