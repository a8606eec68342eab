"""The settings that the parts named in a config accept: the parameters of their classes."""

import inspect
from functools import cache
from typing import Any

from mmengine.registry import Registry

from pe_unified import registry

_UNNAMED = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.VAR_POSITIONAL,
    inspect.Parameter.VAR_KEYWORD,
)


def parameters_of(kind: Any) -> set[str]:
    """Names of the settings that a part accepts; none if no registry knows its ``type``.

    Args:
        kind: the ``type``, by name (``PEClsHead``, ``mmdet.RPNHead``) or the class itself.
    """
    part = _registered(kind) if isinstance(kind, str) else kind
    return _named(part) if inspect.isclass(part) else set()


@cache
def _registered(name: str) -> Any:
    """Look it up in the package's registries, which also search mmengine's and those of a scope."""
    every = [each for each in vars(registry).values() if isinstance(each, Registry)]
    return next((part for each in every if (part := each.get(name)) is not None), None)


def _named(part: type) -> set[str]:
    """Named parameters of a class, and of its bases as long as each passes on ``**kwargs``."""
    names: set[str] = set()
    for owner in inspect.getmro(part):
        if "__init__" not in vars(owner):
            continue
        _, *parameters = inspect.signature(vars(owner)["__init__"]).parameters.values()
        names |= {each.name for each in parameters if each.kind not in _UNNAMED}
        if not any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters):
            break
    return names
