"""Measure a plain HU threshold on a synthetic set, inside the true vessels.

    pe-unified baseline data/comparison/pe --truth data/comparison/raw/*/truth

The best band of Hounsfield units is chosen on the training and validation patients and applied to
the test patients: inside all vessels, and inside the arteries alone, unfiltered and after a 3 x 3
median filter. Make the set with ``pe-unified phantom --truth``, as ``make comparison`` does.
"""

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pe_unified.command import exit_on_user_error
from pe_unified.paths import require_there
from pe_unified.progress import track


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("converted", type=Path, help="folder of the converted set")
    parser.add_argument(
        "--truth", type=Path, nargs="+", required=True, metavar="DIR", help="the phantom's truth/"
    )
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="also write the figures")
    return parser


def measure(converted: Path, truths: list[Path]) -> list[dict]:
    """The rows of the table."""
    from pe_unified.phantom.threshold import (
        REGIONS,
        RegionVoxels,
        best_band,
        pooled_dice,
        read_studies,
        region_voxels,
        slice_auc,
    )

    cases = [(region, median) for region in REGIONS for median in (False, True)]
    voxels: dict[str, list[list[RegionVoxels]]] = {}
    for part, splits in (("known", ("train", "val")), ("test", ("test",))):
        studies = read_studies(converted, splits, truths)
        shown = track(studies, f"reading {' and '.join(splits)}")
        voxels[part] = [[region_voxels(*study, *case) for case in cases] for study in shown]
    rows = []
    measured = list(zip(cases, zip(*voxels["known"]), zip(*voxels["test"])))
    for (region, median), known, test in track(measured, "choosing bands"):
        band = best_band(known)
        rows.append(
            {
                "region": region,
                "median_filter": median,
                "band_hu": [band.low, band.high],
                "dice": round(pooled_dice(band, test), 4),
                "slice_auc": round(slice_auc(band, test), 4),
                "test_patients": len(test),
            }
        )
    return rows


@exit_on_user_error(status=2)
def main(argv: list[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    console = Console(highlight=False)
    require_there(args.converted, *args.truth)
    rows = measure(args.converted, args.truth)
    patients = rows[0]["test_patients"]
    table = Table(title=f"HU threshold inside the true vessels, {patients} test patients")
    for heading in ("inside", "median", "band, HU", "pooled Dice", "slice AUC"):
        table.add_column(heading, justify="left" if heading == "inside" else "right")
    for row in rows:
        low, high = row["band_hu"]
        smoothed = "3 x 3" if row["median_filter"] else "-"
        cells = (f"{low} to {high}", f"{row['dice']:.2f}", f"{row['slice_auc']:.2f}")
        table.add_row(row["region"], smoothed, *cells)
    console.print(table)
    if args.out is not None:
        from pe_unified.json_files import write_json

        write_json(args.out, rows)
    return 0
