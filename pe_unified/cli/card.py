"""Print the card of a model: its training data, its test results, and what was not tested.

pe-unified publish writes the card into the file.

Examples:
  pe-unified card model.pth
  pe-unified card model.pth --json > card.json
"""

import argparse
import json
from pathlib import Path

from pe_unified.cli.arguments import add_trust
from pe_unified.command import exit_on_user_error


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="file written by pe-unified publish")
    parser.add_argument("--json", action="store_true", help="print JSON instead of Markdown")
    add_trust(parser)
    return parser


@exit_on_user_error()
def main() -> None:
    args = make_parser().parse_args()
    from pe_unified.cards.markdown import card_markdown
    from pe_unified.checkpoints import load_checkpoint_safely
    from pe_unified.errors import CheckpointError

    meta = load_checkpoint_safely(args.model, args.trust_checkpoint).get("meta") or {}
    card = meta.get("card")
    if card is None:
        raise CheckpointError(
            f"{args.model}: has no card; pe-unified publish makes one from a checkpoint of training"
        )
    print(json.dumps(card, indent=2) if args.json else card_markdown(card), end="")
