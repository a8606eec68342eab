"""List the configs and recipes that come with the package, or print one in full.

A config of your own starts from one of them: _base_ = "pe_unified::pe_cls_swin.py".

Examples:
  pe-unified config
  pe-unified config pe_cls_swin --cfg-options input_size=384
"""

import argparse

from pe_unified.cli.arguments import add_overrides
from pe_unified.command import exit_on_user_error
from pe_unified.config_files import config_names, find_config


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", nargs="?", help="a name or a file; default: list all names")
    add_overrides(parser, "override settings, as for training")
    return parser


@exit_on_user_error()
def main() -> None:
    args = make_parser().parse_args()
    if args.config is None:
        print("\n".join(config_names()))
        return
    from mmengine.config import Config

    from pe_unified.engine import ConfigError, load_config
    from pe_unified.engine.config import read_python_config

    cfg = read_python_config(find_config(args.config))
    if cfg.get("model"):
        cfg = load_config(args.config, args.cfg_options)
    elif args.cfg_options:
        raise ConfigError("a recipe takes --cfg-options when it is trained (pe-unified steps)")
    print(Config(cfg.to_dict()).pretty_text)
