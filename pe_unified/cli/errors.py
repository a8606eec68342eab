"""Show the errors of a model on whole studies of a split, on a page with a link to each slice.

The page lists emboli that no called lesion finds, called lesions that find none, and exams with
the wrong verdict. A lesion finds what it touches if a tenth of its mask is in emboli. Errors are
counted by size, side, level and contrast; pictures show truth and answer outlined. Writes
index.html, errors.json and slices/ into DIR.

Examples:
  pe-unified errors model.pth --data-root data/pe --out work_dirs/errors
  pe-unified errors model.pth --data-root data/pe --split val --out work_dirs/errors_val
"""

import argparse
from pathlib import Path

from pe_unified.cli.arguments import add_device, add_trust
from pe_unified.command import exit_on_user_error
from pe_unified.options import BATCH_SIZE, positive


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", metavar="MODEL", type=Path, help="a published model")
    parser.add_argument("--data-root", type=Path, required=True, help="the converted data set")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="output folder")
    parser.add_argument("--split", choices=["train", "val", "test"], default="test")
    parser.add_argument(
        "--most",
        type=positive,
        default=200,
        metavar="N",
        help="maximum number of pictures of each kind (200)",
    )
    parser.add_argument("--batch-size", type=positive, default=BATCH_SIZE, help="slices at once")
    add_device(parser)
    add_trust(parser)
    return parser


@exit_on_user_error()
def main() -> None:
    args = make_parser().parse_args()
    from pe_unified.inference.predictor import PredictorSettings
    from pe_unified.review.error_page import write_errors

    model = PredictorSettings(
        str(args.checkpoint),
        trust=args.trust_checkpoint,
        device=args.device,
        precision=args.precision,
        batch_size=args.batch_size,
    )
    found = write_errors(model, args.data_root, args.out, args.split, args.most)
    total = found["summary"][0]
    print(f"{total['found']} of {total['emboli']} emboli found, {total['false']} false lesions")
    print(f"open {args.out / 'index.html'}")
