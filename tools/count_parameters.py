#!/usr/bin/env python
"""Numbers of parameters of the networks in configs/unets, as a table in Markdown.

    python tools/count_parameters.py
    python tools/count_parameters.py unets/unet pe_seg_r50 --cfg-options model.backbone.depth=34

For the whole model, by preset: ``seed`` (mostly 32 channels at full size) and ``paper`` (as in the
paper). Nothing is downloaded. Networks without presets have one number.
"""

import argparse

from pe_unified.cli.arguments import add_overrides
from pe_unified.command import exit_on_user_error
from pe_unified.config_files import config_names

PRESETS = ("seed", "paper")


def parameters_in(config: str, preset: str, overrides: dict | None = None) -> int:
    """Parameters of a config's model."""
    from mmengine.registry import DefaultScope

    from pe_unified.engine import load_config
    from pe_unified.image_network import without_start
    from pe_unified.registry import MODELS

    model = load_config(config, overrides, settings=[{"preset": preset}]).model
    without_start(model)
    with DefaultScope.overwrite_default_scope("pe_unified"):
        return sum(each.numel() for each in MODELS.build(model).parameters())


def row(config: str, overrides: dict | None = None) -> str:
    """A row of the table: the config, and its millions of parameters by preset."""
    from pe_unified.engine import load_config
    from pe_unified.image_network import image_network

    network, _ = image_network(load_config(config, settings=[{"preset": "seed"}]).model)
    has_presets = "preset" in network
    counts = [parameters_in(config, preset, overrides) for preset in PRESETS[: 1 + has_presets]]
    told = " | ".join(f"{count / 1e6:.2f} M" for count in counts)
    return f"| {config} | {told}{' |' * (len(PRESETS) - len(counts))} |"


@exit_on_user_error()
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "configs",
        nargs="*",
        default=[name for name in config_names() if name.startswith("unets/")],
        help="all of configs/unets by default",
    )
    add_overrides(parser, "override settings of the configs")
    args = parser.parse_args()
    print(f"| config | {' | '.join(PRESETS)} |\n|---|{'---|' * len(PRESETS)}")
    for config in args.configs:
        print(row(config, args.cfg_options))


if __name__ == "__main__":
    main()
