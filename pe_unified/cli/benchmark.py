"""Measure pe_unified and its references side by side in one run.

Every row is ``{"what", "case", "ours", "reference", "ratio", "unit", "machine",
"versions"}``; ratio = ours / reference, less is better, except in learn.
"""

import argparse
import ast
import importlib
from pathlib import Path

from pe_unified.benchmarks.arguments import ADD_ARGUMENTS
from pe_unified.command import exit_on_user_error


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    kinds = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    for kind, add_arguments in ADD_ARGUMENTS.items():
        source = Path(__file__).parents[1] / "benchmarks" / f"{kind}.py"
        summary = (ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or "").strip()
        sub = kinds.add_parser(kind, help=summary.splitlines()[0], description=summary)
        add_arguments(sub)
        sub.add_argument("--out", type=Path, help="write the rows to this JSON file")
    return parser


@exit_on_user_error()
def main() -> None:
    args = make_parser().parse_args()
    from pe_unified.benchmarks.common import environment, print_table

    machine, versions = environment()
    rows = [
        {
            "what": args.what,
            **row,
            "ratio": row["ours"] / row["reference"],
            "machine": machine,
            "versions": versions,
        }
        for row in importlib.import_module(f"pe_unified.benchmarks.{args.what}").run(args)
    ]
    if not rows:  # a benchmark that only tells
        return
    print_table(rows)
    if args.out:
        from pe_unified.json_files import write_json

        write_json(args.out, rows)
        print(f"rows written to {args.out}")
