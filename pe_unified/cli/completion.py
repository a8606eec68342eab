"""Print a script that completes commands, their options and the names of configs in a shell.

Examples:
  eval "$(pe-unified completion bash)"      # in ~/.bashrc
  eval "$(pe-unified completion zsh)"       # in ~/.zshrc
"""

import argparse
import importlib

from pe_unified.cli import COMMANDS
from pe_unified.command import exit_on_user_error


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shell", choices=["bash", "zsh"])
    return parser


@exit_on_user_error()
def main() -> None:
    import shtab

    shell = make_parser().parse_args().shell
    whole = argparse.ArgumentParser("pe-unified")
    kinds = whole.add_subparsers()
    groups = {}
    for words, (module, what) in COMMANDS.items():
        group, _, name = words.rpartition(" ")
        if group and group not in groups:
            groups[group] = kinds.add_parser(group, help="convert a public set").add_subparsers()
        parents = [importlib.import_module(module).make_parser()]
        holder = groups[group] if group else kinds
        holder.add_parser(name, help=what, parents=parents, add_help=False)
    print(shtab.complete(whole, shell=shell))
