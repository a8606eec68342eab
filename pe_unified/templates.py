"""Pages from templates, which are stored beside the code that fills them in."""

from jinja2 import Environment, PackageLoader, StrictUndefined

_TEMPLATES = Environment(
    loader=PackageLoader("pe_unified", "."),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}


def render(name: str, **values: object) -> str:
    """Fill in a template, given by its path in the package.

    Texts are escaped; a missing value that the template uses is an error.
    """
    return _TEMPLATES.get_template(name).render(values)
