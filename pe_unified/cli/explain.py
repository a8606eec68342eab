"""Show what a model's answers are based on: Grad-CAM over slices of a converted set.

Writes one PNG per patient, or per exam for an exam model: slices in the PE window, plain and with
a heat map, true masks outlined. For a slice model these are the slices most likely to show
embolism. For an exam model they are the steps with most attention for --label, or with --label
step the steps most likely to show embolism.

Examples:
  pe-unified explain model.pth --data-root data/pe --out work_dirs/explained
  pe-unified explain exam.pth --data-root data/pe --label central_pe --level -2 --out explained
"""

import argparse
from pathlib import Path

from pe_unified.cli.arguments import add_device, add_trust
from pe_unified.command import exit_on_user_error
from pe_unified.options import positive


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path, help="of a slice model or an exam model")
    parser.add_argument("--data-root", type=Path, required=True, help="the converted data set")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="output folder")
    parser.add_argument("--split", choices=["train", "val", "test"], default="test")
    parser.add_argument(
        "--patients", type=positive, default=6, metavar="N", help="spread over the split (6)"
    )
    parser.add_argument(
        "--slices", type=positive, default=4, metavar="N", help="slices per patient (4)"
    )
    parser.add_argument(
        "--level",
        type=int,
        default=-1,
        metavar="K",
        help="level of the backbone: 0 is the finest, -1 the coarsest (-1)",
    )
    parser.add_argument(
        "--label",
        help="for an exam model: a label such as central_pe, or step; default: whether the exam "
        "is positive",
    )
    add_device(parser)
    add_trust(parser)
    return parser


@exit_on_user_error()
def main() -> None:
    args = make_parser().parse_args()
    from pe_unified.inference.explained_set import explain_set

    written = explain_set(
        args.checkpoint,
        args.data_root,
        args.out,
        split=args.split,
        patients=args.patients,
        slices=args.slices,
        level=args.level,
        label=args.label,
        device=args.device,
        precision=args.precision,
        trust=args.trust_checkpoint,
    )
    print(f"{len(written)} pictures in {args.out}")
