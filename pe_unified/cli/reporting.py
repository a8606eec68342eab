"""Fill in the reporting checklists CLAIM 2024 and TRIPOD+AI as far as the software knows.

RUN_OR_MODEL is either a file written by pe-unified publish, whose card is read, or the work dir of
a training run, whose newest checkpoint, metrics.json (of pe-unified test or steps) and
exam_flow.json are read. Answers that the software cannot know are marked as not known. The page is
a draft: check every answer.

Examples:
  pe-unified reporting model.pth --out reporting.md
  pe-unified reporting work_dirs/pe_unified_r50 --data-root data/pe --out reporting.md
"""

import argparse
from pathlib import Path

from pe_unified.cli.arguments import add_data_root, add_trust
from pe_unified.command import exit_on_user_error


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, metavar="RUN_OR_MODEL", help="a file or a work dir")
    parser.add_argument("--out", type=Path, default=Path("reporting.md"), metavar="FILE")
    add_data_root(parser)
    add_trust(parser)
    return parser


@exit_on_user_error()
def main() -> None:
    args = make_parser().parse_args()
    from pe_unified.engine.reporting import write_reporting

    root = Path(args.data_root) if args.data_root else None
    write_reporting(args.source, args.out, root, args.trust_checkpoint)
    print(f"written to {args.out}")
