"""Show what a config's pipeline gives the network: windowed slices, masks and boxes.

Writes one self-contained page, DIR/index.html, and a full-size PNG per slice. Slices with pasted
emboli, and slices joined with others, are shown before and after.

Examples:
  pe-unified browse pe_unified_r50 --data-root data/pe --out work_dirs/browse
  pe-unified browse pe_seg_r50 --split val --number 40 --out work_dirs/browse_val
  pe-unified browse ablations/seg_r50_pasting --out work_dirs/browse_pasting
"""

import argparse
from pathlib import Path

from pe_unified.cli.arguments import add_data_root, add_overrides
from pe_unified.command import exit_on_user_error
from pe_unified.options import positive


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="name or file of a config, such as pe_unified_r50")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="output folder")
    add_data_root(parser)
    parser.add_argument("--split", choices=["train", "val", "test"], default="train")
    parser.add_argument("--number", type=positive, default=24, metavar="N", help="slices (24)")
    parser.add_argument("--seed", type=int, default=0, help="of choice and augmentation")
    add_overrides(parser, "override settings, as for training")
    return parser


@exit_on_user_error()
def main() -> None:
    args = make_parser().parse_args()
    from pe_unified.engine import load_config
    from pe_unified.engine.browse import browse

    cfg = load_config(args.config, args.cfg_options, args.data_root)
    title = Path(args.config).stem
    page = browse(cfg, title, args.out, args.split, args.number, args.seed)
    print(f"open {page}")
