"""Show what a config's pipeline gives the network: windowed slices, masks and boxes.

Writes one self-contained page, DIR/index.html, and a full-size PNG per slice.

Examples:
  pe-unified browse pe_unified_r50 --data-root data/pe --out work_dirs/browse
  pe-unified browse pe_seg_r50 --split val --number 40 --out work_dirs/browse_val
"""

import argparse
from pathlib import Path

from pe_unified.cli.arguments import ConfigOverrides
from pe_unified.command import exit_on_user_error


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="a Python config, such as configs/pe_unified_r50.py")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where it goes")
    parser.add_argument("--data-root", help="the converted data set's folder")
    parser.add_argument("--split", choices=["train", "val", "test"], default="train")
    parser.add_argument("--number", type=int, default=24, metavar="N", help="slices (24)")
    parser.add_argument("--seed", type=int, default=0, help="of the choice and the augmentation")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=ConfigOverrides,
        metavar="KEY=VALUE",
        help="as in train.py",
    )
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
