"""Whether a converted set can be trusted: leaks between splits, doubtful labels, odd geometry."""

from pe_unified.audit.audit import audit

__all__ = ["audit"]
