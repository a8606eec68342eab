"""Generate synthetic CT pulmonary angiograms in the file layouts of the public sets.

The studies are painted, with exact ground truth; no patient data and no download are needed. The
same settings give the same bytes; study k of a seed does not depend on the number of studies; a
stopped run resumes. ``phantom.json`` in OUT lists every study, its anatomy and its emboli.

    pe-unified phantom raw/fumpe --layout fumpe --studies 35
    pe-unified phantom raw/rsna --layout rsna --size 128 --slices 48
    pe-unified phantom raw/exams --layout rsna --preset exams --studies 300 --size 128 --slices 40
"""

import argparse
from pathlib import Path
from typing import Any

from pe_unified.converters.command_line import command
from pe_unified.options import positive
from pe_unified.phantom.layouts.dicom_slices import TRANSFER_SYNTAXES
from pe_unified.phantom.sets import DEFAULT_SEEDS, LAYOUTS, PhantomSettings, make_set
from pe_unified.phantom.study_plan import PRESETS


def write_layout(
    out: str | Path,
    layout: str,
    studies: int,
    *,
    workers: int = 1,
    quiet: bool = True,
    **settings: Any,
) -> list[dict[str, Any]]:
    """Generate a set.

    Args:
        settings: of :class:`pe_unified.phantom.sets.PhantomSettings`: seed, size, slices,
            spacing, preset, positive_rate, transfer_syntax, jpeg, boxes, truth, structures,
            anatomy, anatomies. The default seed is the layout's, see ``DEFAULT_SEEDS``.

    Returns:
        One record per study, as in ``phantom.json``.
    """
    settings = {"seed": DEFAULT_SEEDS.get(layout, 0), **settings}
    return make_set(out, studies, PhantomSettings(layout, **settings), workers=workers, quiet=quiet)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of the set")
    parser.add_argument("--layout", choices=sorted(LAYOUTS), required=True)
    parser.add_argument("--studies", type=positive, default=8, metavar="N", help="default: 8")
    seeds = ", ".join(f"{seed} for {layout}" for layout, seed in DEFAULT_SEEDS.items())
    parser.add_argument(
        "--seed",
        type=int,
        default=argparse.SUPPRESS,
        help=f"of the set; the same seed shows the same bodies in every layout; default: {seeds}",
    )
    parser.add_argument("--size", type=int, default=256, help="rows and columns; default: 256")
    parser.add_argument("--slices", type=int, default=150, help="per study; default: 150")
    parser.add_argument(
        "--spacing",
        type=float,
        nargs=3,
        metavar=("Z", "ROW", "COL"),
        help="mm between slices, rows, columns; default: fitted to each chest",
    )
    parser.add_argument(
        "--preset",
        choices=sorted(PRESETS),
        default="reference",
        help="what studies are drawn from: emboli as in FUMPE (reference), or enough of every exam "
        "label in a few hundred studies (exams); default: reference",
    )
    parser.add_argument(
        "--positive-rate",
        type=float,
        metavar="P",
        help="share of studies with emboli; default: as in the real set, 0.5 for --preset exams",
    )
    parser.add_argument(
        "--anatomy",
        metavar="DIR",
        help="paint on real patients: label maps (1 lung, 2 arteries, 3 veins), or what "
        "TotalSegmentator wrote; default: made-up chests",
    )
    parser.add_argument(
        "--anatomies", metavar="A,B,...", help="names of the patients in DIR to take; default: all"
    )
    parser.add_argument("--workers", type=positive, default=1, help="processes; default: 1")
    parser.add_argument(
        "--transfer-syntax",
        choices=sorted(TRANSFER_SYNTAXES),
        default="explicit",
        help="of the DICOM files; default: explicit VR little endian",
    )
    parser.add_argument("--jpeg", action="store_true", help="rsna: also the JPEG-256 edition")
    parser.add_argument(
        "--boxes",
        action="store_true",
        help="rsna: also augmented_rspect.csv with boxes (with --jpeg: --size 512)",
    )
    parser.add_argument(
        "--truth", action="store_true", help="also truth/PATIENT.npz: emboli and structures"
    )
    parser.add_argument(
        "--structures",
        action="store_true",
        help="also structures/PATIENT with lung_arteries.nii.gz and lung_veins.nii.gz, named as "
        "TotalSegmentator does",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress")
    return parser


@command
def main(argv: list[str] | None = None) -> int:
    arguments = vars(make_parser().parse_args(argv))
    out, layout, studies = (arguments.pop(name) for name in ("out", "layout", "studies"))
    if arguments["spacing"] is not None:
        arguments["spacing"] = tuple(arguments["spacing"])
    if arguments["anatomies"] is not None:
        arguments["anatomies"] = tuple(arguments["anatomies"].split(","))
    records = write_layout(out, layout, studies, **arguments)
    positive = sum(record["positive_slices"] > 0 for record in records)
    print(f"{out}: {len(records)} studies in the layout {layout}, {positive} with emboli")
    return 0
