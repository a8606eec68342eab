"""Write a model for use: weights and config only, with all thresholds fixed on validation.

The thresholds for slices, pixels and boxes are chosen on the validation split of --data-root. So is
the gate below which segmentation and detection are skipped (it keeps 99.5 % of the positive
slices). The whole studies of the split are then read as for a report, to choose the thresholds of
exams and lesions. pe-unified infer takes the file. A step of a recipe has its config in its folder.
The network and its input are those that the checkpoint was trained with, unless --cfg-options names
what differs. A checkpoint that learned from patients of the validation split is refused, and with
--test one that learned from those of the test split.

The model's card is stored in the file and beside it, as OUT.card.md and OUT.card.json. With --test
it holds metrics of the test split, with intervals and subgroups; without it, the card says that the
model was not tested.

Examples:
  pe-unified publish pe_unified_r50 work_dirs/pe_unified_r50/iter_20000.pth model.pth
  pe-unified publish work_dirs/steps_r50/s9_unified/pe_unified_r50.py \
    work_dirs/steps_r50/s9_unified/iter_20000.pth model.pth
"""

import argparse
from pathlib import Path

from pe_unified.cli.arguments import add_config_arguments, read_config
from pe_unified.command import exit_on_user_error


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_config_arguments(parser)
    parser.add_argument("checkpoint", type=Path, help="written by pe-unified train or steps")
    parser.add_argument("out", type=Path, help="the new file, .pth")
    parser.add_argument(
        "--fuse",
        action="store_true",
        help="fit the score of a lesion to mask, box, slice and volume (docs/cascade.md)",
    )
    parser.add_argument(
        "--test", action="store_true", help="measure on the test split, for the model's card"
    )
    return parser


@exit_on_user_error()
def main() -> None:
    args = make_parser().parse_args()
    from pe_unified.engine import ConfigError
    from pe_unified.engine.publish import publish

    if args.out.exists():
        raise ConfigError(f"{args.out} exists; remove it or choose another name")
    if args.launcher != "none":
        raise ConfigError("one process publishes; leave --launcher out")
    cfg = read_config(args, of_checkpoint=True)
    cfg.work_dir = args.work_dir or f"work_dirs/{Path(args.config).stem}/publish"
    cfg.console_level = "WARNING"
    validated = publish(cfg, args.checkpoint, args.out, args.fuse, args.test).validated
    for key in sorted(validated):
        if key.endswith(("threshold", "gate")):
            how = " by default, not chosen" if f"{key}_by_default" in validated else ""
            print(f"{key}: {validated[key]:.4f}{how}")
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.0f} MB")
    print(f"its card: {args.out.with_suffix('.card.md')}")
