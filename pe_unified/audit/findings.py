"""What an audit says."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """One thing that a person should look at.

    Fields:
        check: what was looked at, in words.
        severity: an error makes results of the set wrong; a warning may be right.
        text: in one sentence.
        items: what it is about: patients, files, or whole messages.
        files: slices to show.
    """

    check: str
    severity: Severity
    text: str
    items: Sequence[str] = field(default=())
    files: Sequence[str] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """As ``audit.json`` holds it."""
        return {
            "check": self.check,
            "severity": self.severity,
            "text": self.text,
            "count": len(self.items),
            "items": list(self.items),
            "slices": list(self.files),
        }
