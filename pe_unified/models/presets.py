"""Widths of the networks of the UNet family."""

#: Channels at full size: half of what most papers use, and the papers' number.
SEED, PAPER = 32, 64


def base_width(preset: str, base_channels: int | None, seed: int = SEED, paper: int = PAPER) -> int:
    """Channels at full size, from which all other widths follow.

    Args:
        preset: ``"seed"`` or ``"paper"``.
        base_channels: instead of the preset's.
        seed, paper: channels of the presets.

    Raises:
        ValueError: there is no such preset.
    """
    widths = {"seed": seed, "paper": paper}
    if preset not in widths:
        raise ValueError(f"preset is one of {', '.join(widths)}, got {preset!r}")
    return base_channels or widths[preset]
