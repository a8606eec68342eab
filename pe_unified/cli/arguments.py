"""What the tools' command lines share."""

import argparse
import copy
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmengine.config import Config


class ConfigOverrides(argparse.Action):
    """mmengine's ``KEY=VALUE``; mmengine itself is loaded when there are any."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option: Any = None) -> None:
        from mmengine.config import DictAction

        try:
            DictAction(self.option_strings, self.dest)(parser, namespace, values, option)
        except (ValueError, AssertionError) as error:
            raise argparse.ArgumentError(self, f"KEY=VALUE is expected: {error}") from error


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", help="name or file of a config, such as pe_cls_r50")
    add_data_root(parser)
    parser.add_argument(
        "--work-dir",
        help="folder of the results; default: a folder under work_dirs named after the config",
    )
    add_overrides(
        parser,
        "override settings of the config, e.g. max_iters=500 lr=1e-4; "
        "a key that neither the config nor the component accepts is refused",
    )
    add_trust(parser)
    add_launcher(parser, "the program that started this process")
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0, help=argparse.SUPPRESS)


def add_data_root(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data-root", help="folder of the converted data set")


def add_overrides(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument(
        "--cfg-options", nargs="+", action=ConfigOverrides, metavar="KEY=VALUE", help=what
    )


def add_reuse(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--reuse",
        nargs="+",
        action="extend",
        default=[],
        metavar="MODULE=CHECKPOINT",
        help="start a module (backbone, cls_head, ... ) from a checkpoint",
    )


def reused(cfg: "Config", args: argparse.Namespace) -> dict[str, str]:
    """What modules start from: the config, overridden by the command line."""
    from pe_unified.engine import ConfigError

    reuse = dict(cfg.get("reuse") or {})
    for pair in args.reuse:
        module, separator, checkpoint = pair.partition("=")
        if not separator:
            raise ConfigError(f"--reuse takes MODULE=CHECKPOINT, got '{pair}'")
        reuse[module] = checkpoint
    return reuse


def add_launcher(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument(
        "--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none", help=what
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """The device and the precision of the network."""
    parser.add_argument("--device", help="cpu, cuda, ...; default: the GPU if there is one")
    parser.add_argument(
        "--precision",
        choices=["bf16", "fp32"],
        help="default: bf16 if the processor supports it",
    )


def add_trust(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--trust-checkpoint",
        action="store_true",
        help="load checkpoints that contain pickled code; the code is executed",
    )


def read_config(args: argparse.Namespace, of_checkpoint: bool = False) -> "Config":
    """The config that a command line specifies.

    Args:
        of_checkpoint: with the network and the input that ``args.checkpoint`` was trained with.
    """
    from pe_unified.checkpoints import config_of, load_checkpoint_safely
    from pe_unified.config_files import find_config
    from pe_unified.engine import load_config
    from pe_unified.engine.config import read_python_config
    from pe_unified.models.known_parts import for_answers

    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    overrides = dict(args.cfg_options or {})
    if getattr(args, "amp", False):
        overrides["precision"] = "bf16"
    trained_with = None
    if of_checkpoint:
        read_python_config(find_config(args.config))  # brings parts of the user's own
        stored = config_of(load_checkpoint_safely(args.checkpoint, trust=args.trust_checkpoint))
        if stored is not None:
            trained_with = copy.deepcopy(dict(stored))
            loaders = (trained_with.get(f"{split}_dataloader") or {} for split in ("val", "test"))
            sets = [loader.get("dataset") or {} for loader in loaders]
            parts = [each.get(part) for each in sets for part in ("pipeline", "steps")]
            trust = args.trust_checkpoint
            for_answers(args.checkpoint, trained_with["model"], *parts, trust=trust)
    cfg = load_config(args.config, overrides, args.data_root, trained_with=trained_with)
    cfg.trust_checkpoint = args.trust_checkpoint
    return cfg
