#!/usr/bin/env python
"""Coverage of intervals over few patients, on simulated test splits with known truth.

    python tools/check_intervals.py --out intervals.json

Patients differ: a third have no embolus, the size of the others' emboli varies by a factor of 100,
and some are harder for every network. Two arms answer for each, similarly on the same patient. Per
metric and number of patients:

- one arm: how often its 95 % interval contains the true value;
- equal arms: how often p < 0.05 calls them different (5 % of the time, if p is correct);
- unequal arms: how often the interval of their difference contains the true difference.

With ``--reference N`` the first N splits also get percentiles of the bootstrap over patients.
"""

import argparse
import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pe_unified.command import exit_on_user_error
from pe_unified.files import write_text
from pe_unified.options import positive
from pe_unified.progress import track


@exit_on_user_error()
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--patients", type=positive, nargs="+", default=[5, 8, 14, 22, 50])
    parser.add_argument(
        "--repeats", type=positive, default=2000, help="simulated splits of each kind"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reference", type=int, default=0, metavar="N", help="splits with both")
    parser.add_argument("--out", type=Path, help="the table as JSON")
    args = parser.parse_args()
    if min(args.patients) < 2:
        parser.error("--patients: a difference needs 2 patients or more")
    from pe_unified.evaluation.simulation import SIMULATIONS, count

    lines = [(name, patients) for name in SIMULATIONS for patients in args.patients]
    rows = []
    for name, patients in track(lines, "simulating"):
        key, simulate = SIMULATIONS[name]
        found = count(key, simulate, patients, args.repeats, args.seed, args.reference)
        rows.append({"metric": name, "patients": patients, **found})
    columns = list(rows[0])
    table = Table(*columns, title=f"{args.repeats} simulated splits each")
    for row in rows:
        shares = [f"{row.get(column, float('nan')):.1%}" for column in columns[2:]]
        table.add_row(row["metric"], str(row["patients"]), *shares)
    Console(width=160).print(table)
    if args.out is not None:
        write_text(
            args.out,
            json.dumps({**vars(args), "out": args.out.name, "rows": rows}, indent=2) + "\n",
        )


if __name__ == "__main__":
    main()
