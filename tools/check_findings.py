#!/usr/bin/env python
"""Compare a report's findings that need no network with the truth of synthetic studies.

    python tools/check_findings.py --studies 60 --anatomy DIR --out findings.json

Lungs: Dice against the painted lungs, with and without the vessels in them; where fluid or
consolidation was painted, only aerated lung counts. Emboli: the true masks are described as if the
network had found them; side and level (central: trunk, main and lobar arteries; segmental: those
beyond) are compared with the arteries that they were painted into. Boxes: whether the box
around each embolus can hold a clot, by the rule of attenuation, and whether the same box can in
aerated lung. Flags: poor opacification and motion as painted.

    python tools/check_findings.py --faults 16 --anatomy DIR --out faults.json

paints studies of 1 mm slices with gas in stomach and bowel and over the table, every second one
with motion. It makes further studies with thicker slices, with larger voxels, with ends or sides
cut off, without air, and without contrast. It counts the flags, and compares the lungs with the
truth.

    python tools/check_findings.py --hearts 40 --step 5

measures RV/LV in the masks of synthetic ventricles, as a report does in given masks.

    python tools/check_findings.py --masks 28 --size 128

checks the masks of synthetic emboli, correct and mirrored, in the same way as masks of own data.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pe_unified.command import exit_on_user_error
from pe_unified.options import positive
from pe_unified.progress import track


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--studies", type=positive, default=20, help="to paint; default 20")
    parser.add_argument(
        "--faults", type=positive, metavar="N", help="studies with faults to paint instead"
    )
    parser.add_argument("--hearts", type=positive, metavar="N", help="hearts to measure instead")
    parser.add_argument(
        "--masks", type=positive, metavar="N", help="studies whose masks are checked instead"
    )
    parser.add_argument(
        "--step", type=float, default=1.0, help="mm between their slices; default 1"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the first study; default 0")
    parser.add_argument("--slices", type=positive, default=100, help="of a study; default 100")
    parser.add_argument("--size", type=positive, default=256, help="rows and columns; default 256")
    parser.add_argument("--anatomy", type=Path, metavar="DIR", help="label maps to paint on")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="also write the figures")
    return parser.parse_args(argv)


@exit_on_user_error()
def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    from pe_unified.benchmarks.painted_faults import check_faults, summarise_faults
    from pe_unified.benchmarks.painted_hearts import check_heart, summarise_hearts
    from pe_unified.benchmarks.painted_placings import check_placings, summarise_placings
    from pe_unified.benchmarks.painted_truth import check_study, summarise
    from pe_unified.json_files import write_json
    from pe_unified.phantom.labelmap import LabelMap, list_anatomies, read_label_map
    from pe_unified.phantom.study import PhantomStudy, paint_study

    def paint(seed: int, body: LabelMap | None) -> PhantomStudy:
        return paint_study(seed, (args.slices, args.size, args.size), anatomy=body)

    kinds: dict[str, tuple[Callable[[int, str, LabelMap | None], Any], Callable]] = {
        "hearts": (lambda seed, _, body: check_heart(seed, args.step, body), summarise_hearts),
        "faults": (lambda seed, _, body: check_faults(seed, args.size, body), summarise_faults),
        "masks": (lambda seed, _, body: check_placings(paint(seed, body)), summarise_placings),
        "studies": (
            lambda seed, name, body: check_study(
                f"{name or 'made up'}, seed {seed}", paint(seed, body)
            ),
            summarise,
        ),
    }
    kind = next(name for name in kinds if getattr(args, name))
    check, summarised = kinds[kind]
    anatomies = list(list_anatomies(args.anatomy).items()) if args.anatomy else [("", None)]
    checked: list[Any] = []
    for number in track(range(getattr(args, kind)), "painting and checking"):
        name, path = anatomies[number % len(anatomies)]
        body = None if path is None else read_label_map(path, name)
        checked.append(check(args.seed + number, name, body))
    summary = summarised(checked)
    table = Table("", "", "", title="painted studies: found against painted")
    for about, figures in summary.items():
        for name, value in figures.items():
            table.add_row(about, name, f"{value:.3f}" if isinstance(value, float) else str(value))
        table.add_section()
    Console().print(table)
    if args.out:
        found: dict[str, Any] = {"summary": summary}
        if kind == "studies":
            found["studies"] = [asdict(each) for each in checked]
        write_json(args.out, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
