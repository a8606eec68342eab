"""Train a recipe of steps, each reusing the weights of earlier ones, and compare the arms.

If run again after an interruption, it resumes at the step and iteration where it stopped.

Examples:
  pe-unified steps steps/r50 --data-root data/pe
  pe-unified steps steps/swin --data-root data/pe --seeds 0 1 2
  pe-unified steps steps/r50 --data-root data/pe --jobs 4
"""

import argparse
from pathlib import Path

from rich.console import Console

from pe_unified.cli.arguments import (
    add_data_root,
    add_launcher,
    add_overrides,
    add_trust,
)
from pe_unified.command import exit_on_user_error
from pe_unified.options import positive


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", help="name or file of a recipe, such as steps/r50")
    add_data_root(parser)
    parser.add_argument(
        "--work-dir", help="folder of the results; default: work_dirs/<folder>_<name> of the recipe"
    )
    parser.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        default=[0],
        help="train everything once per seed; arms are compared by their means over seeds",
    )
    add_overrides(parser, "override settings in every step, e.g. max_iters=500")
    parser.add_argument(
        "--jobs",
        type=positive,
        default=1,
        metavar="N",
        help="steps trained at a time, each with its share of the cores and one GPU in turn; "
        "small models then train about N times faster, because one cannot use many cores",
    )
    add_launcher(
        parser,
        "the program that started this process; all its processes train every step together",
    )
    parser.add_argument("--note", default="", help="a line printed under every figure")
    parser.add_argument("--amp", action="store_true", help="train in bfloat16 mixed precision")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="resume an earlier run; recipes always do this",
    )
    add_trust(parser)
    return parser


def _say(line: str) -> None:
    from mmengine.dist import is_main_process

    if is_main_process():
        print(line, flush=True)


def _default_work_dir(recipe: Path) -> str:
    return f"work_dirs/{recipe.resolve().parent.name}_{recipe.stem}"


@exit_on_user_error(goes_on="run the same command again to continue")
def main() -> None:
    args = make_parser().parse_args()
    from mmengine.dist import is_main_process

    from pe_unified.recipes import run_recipe
    from pe_unified.recipes.summary import summary_table

    summary = run_recipe(
        args.recipe,
        work_dir=Path(args.work_dir or _default_work_dir(Path(args.recipe))),
        data_root=args.data_root,
        overrides={**(args.cfg_options or {}), **({"precision": "bf16"} if args.amp else {})},
        seeds=args.seeds,
        note=args.note,
        trust_checkpoint=args.trust_checkpoint,
        jobs=args.jobs,
        launcher=args.launcher,
        report=_say,
    )
    if is_main_process():
        Console().print(summary_table(summary))
