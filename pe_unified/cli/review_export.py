"""Export readers' decisions: corrected DICOM SEG and SR, a converted set, agreement.

REPORTS is a folder written by `pe-unified infer` or `pe-unified batch`. Reports hold no images, so
--studies says where they are; they are found by their UIDs, or by the name of the report's folder.
OUT gets, for every study that is done, studies/<name>/ with mask.seg.dcm, findings.sr.dcm,
mask.nii.gz and corrected.json: accepted, redrawn and added lesions are included, rejected ones are
left out. OUT/set holds the same studies as a converted set, for `pe-unified merge` and training.
decisions.csv, readers.csv, agreement.csv and agreement.md are also written without --studies.

Exit status 1: studies with decisions were left out, also because they are not done yet, or reports
cannot be read; each is named.

Examples:
  pe-unified review export reports/ --studies /data/ct --out corrected
  pe-unified review export reports/ --studies /data/ct --out corrected --splits-of data/pe
  pe-unified merge data/pe corrected/set --names pe corrected --out data/pe_2
"""

import argparse
import sys
from pathlib import Path

from pe_unified.command import exit_on_user_error
from pe_unified.options import positive
from pe_unified.workers import usable_cores


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("reports", metavar="REPORTS", type=Path, help="folder of the reports")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="output folder")
    parser.add_argument(
        "--studies",
        nargs="+",
        type=Path,
        default=[],
        metavar="PATH",
        help="the studies, or folders that contain them",
    )
    parser.add_argument(
        "--reader", metavar="NAME", help="use this reader's decisions; default: the newest of all"
    )
    parser.add_argument(
        "--split",
        type=float,
        nargs=3,
        metavar=("TRAIN", "VAL", "TEST"),
        default=(1.0, 0.0, 0.0),
        help="shares of the patients in the set (default: all for training)",
    )
    parser.add_argument(
        "--splits-of",
        type=Path,
        action="append",
        default=[],
        metavar="DATA",
        help="a converted set: its patients keep the split that they have there",
    )
    parser.add_argument("--workers", type=positive, default=usable_cores(), help="processes")
    return parser


@exit_on_user_error(also=(ValueError,))
def main() -> int:
    args = make_parser().parse_args()
    from pe_unified.cli.infer import pseudonym_key
    from pe_unified.converters.contract.known_splits import read_splits
    from pe_unified.converters.pipeline.run import RunOptions
    from pe_unified.review.export import export_review

    options = RunOptions(
        workers=args.workers,
        split=tuple(args.split),
        known=read_splits(args.splits_of, args.out / "set"),
    )
    found = export_review(
        args.reports, args.out, args.studies, args.reader, pseudonym_key(), options
    )
    for reason in [*found.left_out, *found.faults]:
        print(f"  {reason}", file=sys.stderr)
    if args.studies:
        print(
            f"studies corrected: {len(found.studies)}, left out: {len(found.left_out)}; {args.out}"
        )
    else:
        print(
            f"decisions and agreement written to {args.out}; "
            "SEG, SR and a set need images: add --studies"
        )
    return 1 if found.left_out or found.faults else 0
