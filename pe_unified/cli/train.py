"""Train one model from a config.

Examples:
  pe-unified train pe_cls_swin --data-root data/pe
  pe-unified train pe_cls_seg_r50 --data-root data/pe --minutes 60
  pe-unified train pe_seg_r50 --reuse backbone=work_dirs/pe_cls_r50/iter_20000.pth
  torchrun --nproc_per_node 2 -m pe_unified train pe_unified_r50 --launcher pytorch
"""

import argparse
from pathlib import Path

from pe_unified.cli.arguments import add_config_arguments, add_reuse, read_config, reused
from pe_unified.command import exit_on_user_error
from pe_unified.options import positive_number
from pe_unified.paths import require_there


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_config_arguments(parser)
    parser.add_argument(
        "--resume",
        action="store_true",
        help="continue from the newest complete checkpoint of the work dir",
    )
    parser.add_argument(
        "--minutes",
        type=positive_number,
        metavar="M",
        help="train for about M minutes on this machine, validation not counted: the speed is "
        "measured first, and the schedule (max_iters) is set accordingly",
    )
    parser.add_argument("--amp", action="store_true", help="train in bfloat16 mixed precision")
    add_reuse(parser)
    return parser


@exit_on_user_error(goes_on="--resume continues from the newest checkpoint")
def main() -> None:
    args = make_parser().parse_args()
    from pe_unified.engine import PERunner
    from pe_unified.engine.config import annotation_files
    from pe_unified.engine.pace import fit_into
    from pe_unified.engine.runner import refuse_used

    cfg = read_config(args)
    cfg.work_dir = args.work_dir or cfg.get("work_dir") or f"work_dirs/{Path(args.config).stem}"
    cfg.launcher = args.launcher
    cfg.resume = args.resume
    cfg.reuse = reused(cfg, args)
    annotation_files(cfg, "train", "val")  # before anything is written or downloaded
    if not args.resume:
        refuse_used(cfg.work_dir)
        require_there(*map(Path, cfg.reuse.values()))
    if args.minutes:
        fit_into(cfg, args.minutes)
    PERunner.from_cfg(cfg).train()
