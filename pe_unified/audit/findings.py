"""The findings of an audit."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """One thing that a person should look at.

    Fields:
        check: name of what was checked.
        severity: an error makes results on the set wrong; what causes a warning may be correct.
        text: the finding in one sentence.
        items: what it is about: patients, files, or whole messages.
        files: slices to show.
    """

    check: str
    severity: Severity
    text: str
    items: Sequence[str] = field(default=())
    files: Sequence[str] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """The entry in ``audit.json``."""
        return {
            "check": self.check,
            "severity": self.severity,
            "text": self.text,
            "count": len(self.items),
            "items": list(self.items),
            "slices": list(self.files),
        }
