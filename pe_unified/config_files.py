"""The configs and recipes that come with the package, found by name."""

import difflib
from collections.abc import Iterator
from pathlib import Path

from pe_unified.errors import UserError

#: In a clone, a link to ``configs/``; in an installed package, a copy of it.
CONFIGS = Path(__file__).parent / "configs"
#: Prefix of a base config's name: ``_base_ = "pe_unified::pe_cls_swin.py"``.
SCOPE = "pe_unified::"


class NoConfig(UserError, FileNotFoundError):
    """The name is neither a file nor a config of the package."""


def config_names() -> Iterator[str]:
    """Names of all configs that can be trained: ``pe_cls_swin``, ``steps/r50``, ..."""
    for path in sorted(CONFIGS.glob("**/*.py")):
        name = path.relative_to(CONFIGS).with_suffix("").as_posix()
        if not name.startswith("_base_"):
            yield name


def find_config(name: str | Path) -> Path:
    """The file at this path, otherwise the package's own config of this name.

    Raises:
        NoConfig: there is neither; the message suggests similar names.
    """
    path = Path(name)
    if path.is_file():
        return path
    inner = str(name).removeprefix(SCOPE).removeprefix("configs/").removesuffix(".py")
    own = CONFIGS / f"{inner}.py"
    if own.is_file():
        return own
    near = difflib.get_close_matches(inner, config_names(), n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    raise NoConfig(f"no config at {name}{hint or ';'} `pe-unified config` lists the ready ones")
