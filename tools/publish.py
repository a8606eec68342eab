#!/usr/bin/env python
"""Make a checkpoint for use: its weights and config alone, with all thresholds fixed on validation.

The validation split of --data-root gives the thresholds for slices, pixels, boxes and exams, and
the gate that spares segmentation and detection (it keeps 99.5 % of the positive slices).
tools/infer.py takes the file.

Example:
  tools/publish.py work_dirs/pe_unified_r50/iter_20000.pth model.pth --data-root data/pe
"""

import argparse
from pathlib import Path

from command_line import exit_on_user_error
from mmengine.config import Config, DictAction

from pe_unified.engine import ConfigError
from pe_unified.engine.config import override
from pe_unified.engine.publish import publish
from pe_unified.models.weights import CheckpointError, load_checkpoint_safely


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path, help="written by tools/train.py or train_steps.py")
    parser.add_argument("out", type=Path, help="the new file, .pth")
    parser.add_argument("--data-root", help="a converted set; the one of training by default")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=DictAction,
        metavar="KEY=VALUE",
        help="override settings of its config, e.g. input_size=512; thresholds are chosen so",
    )
    parser.add_argument("--work-dir", default="work_dirs/publish", help="for the log")
    parser.add_argument(
        "--trust-checkpoint", action="store_true", help="run code that the checkpoint may contain"
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with exit_on_user_error():
        if args.out.exists():
            raise ConfigError(f"{args.out} exists; remove it or choose another name")
        stored = load_checkpoint_safely(args.checkpoint, args.trust_checkpoint)
        if not stored.get("meta", {}).get("cfg"):
            raise CheckpointError(
                f"{args.checkpoint}: carries no config; train with tools/train.py"
            )
        cfg = Config(stored["meta"]["cfg"])
        cfg.work_dir = args.work_dir
        cfg.trust_checkpoint = args.trust_checkpoint
        cfg.launcher = "none"
        override(cfg, args.cfg_options, args.data_root)
        validated = publish(cfg, args.checkpoint, args.out)
    for key in ("cls/threshold", "cls/gate", "seg/threshold", "det/threshold", "exam/threshold"):
        if key in validated:
            print(f"{key}: {validated[key]:.4f}")
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
