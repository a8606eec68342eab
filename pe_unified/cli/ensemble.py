"""Join several models into one: their answers are combined, and all thresholds are fixed anew.

The members may differ in input and in their tasks: a slice classifier, a segmentation and a
detection network make a cascade. Each question is answered by the members that can answer it: per
slice and per pixel by their weighted mean, per box by weighted boxes fusion; --rule vote counts the
members above their own thresholds. The thresholds are chosen on the validation split of
--data-root, as in pe-unified publish; models that were trained on one of its studies are refused.
OUT contains the members, so pe-unified infer needs only that file; pe-unified test also accepts it.

Examples:
  pe-unified ensemble r50.pth swin.pth --data-root data/pe --out both.pth
  pe-unified ensemble cls=a.pth seg=b.pth det=c.pth --data-root data/pe --fuse --out cascade.pth
  pe-unified ensemble members.json --data-root data/pe --out both.pth

members.json, or a Python file with the same names:
  {"members": [{"checkpoint": "r50.pth", "weight": 2}, {"checkpoint": "swin.pth", "name": "swin"}],
   "rule": "mean", "fuse": true}
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pe_unified.cli.arguments import add_trust
from pe_unified.command import exit_on_user_error
from pe_unified.options import ENSEMBLE_RULES

if TYPE_CHECKING:
    from pe_unified.engine.ensemble import EnsembleList


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "members",
        nargs="+",
        metavar="[NAME=]CHECKPOINT",
        help="written by pe-unified train, steps or publish; or a list of members, .py or .json",
    )
    parser.add_argument("--data-root", required=True, help="folder of the converted data set")
    parser.add_argument("--out", type=Path, required=True, help="the new file, .pth")
    parser.add_argument("--weights", nargs="+", type=float, help="weights of the members, in order")
    parser.add_argument("--rule", choices=ENSEMBLE_RULES, help="default: mean")
    parser.add_argument(
        "--fuse",
        action="store_true",
        help="fit the score of a lesion to mask, box, slice, mark and volume",
    )
    parser.add_argument(
        "--marks", help="marks of a 3D model on the validation studies, .csv: id,x,y,z,prob"
    )
    parser.add_argument(
        "--volume-checkpoint",
        metavar="FILE",
        help="a 3D model, instead of its marks; it becomes part of the file",
    )
    parser.add_argument(
        "--lungs", metavar="FILE", help="a lung detector; studies are cropped to its boxes"
    )
    add_trust(parser)
    return parser


@exit_on_user_error()
def main() -> None:
    args = make_parser().parse_args()
    from pe_unified.engine import ConfigError
    from pe_unified.engine.ensemble import make_ensemble

    if args.out.exists():
        raise ConfigError(f"{args.out} exists; remove it or choose another name")
    validation = dict(
        type="PESliceDataset", data_root=args.data_root, ann_file="annotations/val.json"
    )
    validated = make_ensemble(_wanted(args), validation, args.out, args.trust_checkpoint)
    for key in sorted(validated):
        if key.endswith(("threshold", "gate")):
            how = " by default, not chosen" if f"{key}_by_default" in validated else ""
            print(f"{key}: {validated[key]:.4f}{how}")
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.0f} MB")


def _wanted(args: argparse.Namespace) -> "EnsembleList":
    """The list that the command line names, or is."""
    from dataclasses import replace

    from pe_unified.engine import ConfigError
    from pe_unified.engine.ensemble import EnsembleList, entry_of, read_list

    first = Path(args.members[0])
    if len(args.members) == 1 and first.suffix in (".py", ".json"):
        found = read_list(first)
    else:
        found = EnsembleList([entry_of(word) for word in args.members])
    if args.weights is not None:
        if len(args.weights) != len(found.members):
            raise ConfigError(f"{len(args.weights)} weights for {len(found.members)} members")
        pairs = zip(found.members, args.weights, strict=True)
        found = replace(found, members=[replace(each, weight=w) for each, w in pairs])
    return replace(
        found,
        rule=args.rule or found.rule,
        fuse=args.fuse or found.fuse,
        marks=args.marks or found.marks,
        lungs=args.lungs or found.lungs,
        volumes=args.volume_checkpoint or found.volumes,
    )
