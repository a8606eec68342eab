"""Store the features of every exam of a converted set, computed by the encoder of an exam model.

If run again after an interruption, it computes what is missing. The last line names the folder. A
model that reads features takes it: pe-unified train exam/... --cfg-options features=FOLDER.

Examples:
  pe-unified extract exam/two_phase_chunks --checkpoint work_dirs/two_phase_chunks/iter_20000.pth
  pe-unified extract exam/shared_features --reuse encoder.backbone:backbone=CHECKPOINT
"""

import argparse
from pathlib import Path

from pe_unified.cli.arguments import add_config_arguments, add_reuse, read_config, reused
from pe_unified.command import exit_on_user_error


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_config_arguments(parser)
    parser.add_argument("--checkpoint", help="weights for the whole model of the config")
    add_reuse(parser)
    return parser


@exit_on_user_error(goes_on="run the same command again to continue")
def main() -> None:
    args = make_parser().parse_args()
    from pe_unified.engine.config import annotation_files
    from pe_unified.engine.extract import extract
    from pe_unified.engine.launchers import join_processes

    cfg = read_config(args, of_checkpoint=args.checkpoint is not None)
    cfg.reuse = reused(cfg, args)
    annotation_files(cfg, "train", "val", "test")
    join_processes(args.launcher)
    folder = Path(args.work_dir or f"work_dirs/{Path(args.config).stem}")
    found = extract(cfg, folder, args.checkpoint)
    print(f"features of {found.exams} exams: {found.store.folder}")
