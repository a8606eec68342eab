"""Continue training a published model on your own data, and report whether it helped.

MODEL is a file written by pe-unified publish: network, input, losses and augmentation come from
it. The schedule is short and depends on the size of DATA's training split. Thresholds are fixed
anew on its validation split, and OUT/finetuned.pth is a published model with a card. Before and
after are compared on the test split (OUT/comparison.md); if a metric got worse, a warning says so.

A model that was trained on a patient of the validation or test split is refused.

Examples:
  pe-unified finetune model.pth data/ours
  pe-unified finetune model.pth data/ours --freeze backbone --out work_dirs/ours_head
  pe-unified finetune model.pth data/ours --freeze 2 --iterations 500 --resume
"""

import argparse
from pathlib import Path

from rich.console import Console

from pe_unified.cli.arguments import add_overrides, add_trust
from pe_unified.command import exit_on_user_error
from pe_unified.options import positive
from pe_unified.paths import require_apart


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="file written by pe-unified publish")
    parser.add_argument("data", type=Path, help="a converted set, with all three splits")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="default: work_dirs/<model>_on_<data>"
    )
    parser.add_argument(
        "--freeze",
        default="",
        metavar="PART|N",
        help="what to freeze: a part of the model, such as backbone, or the stem and the first "
        "N stages of its backbone",
    )
    parser.add_argument(
        "--iterations", type=positive, metavar="N", help="default: four passes over the slices"
    )
    parser.add_argument("--lr", type=float, help="learning rate; default: a tenth of the model's")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="continue from the newest complete checkpoint of OUT",
    )
    add_overrides(parser, "override further settings, as for training")
    add_trust(parser)
    return parser


@exit_on_user_error(goes_on="--resume continues from the newest checkpoint")
def main() -> None:
    args = make_parser().parse_args()
    out = args.out or Path("work_dirs", f"{args.model.stem}_on_{args.data.resolve().name}")
    require_apart(out, args.data)
    from pe_unified.engine.runner import refuse_used
    from pe_unified.recipes.before_after import comparison_table
    from pe_unified.recipes.finetune import RESULT, FinetuneOptions, finetune

    if not args.resume:
        refuse_used(out, "--out")
    options = FinetuneOptions(
        freeze=args.freeze,
        iterations=args.iterations,
        lr=args.lr,
        resume=args.resume,
        overrides=args.cfg_options,
        trust=args.trust_checkpoint,
    )
    found = finetune(args.model, args.data, out, options)
    Console().print(comparison_table(found))
    print(f"{out / RESULT}, its card and comparison.md beside it")
