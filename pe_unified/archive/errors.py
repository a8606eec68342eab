"""What goes wrong between two machines, in words that name no patient."""

from pe_unified.errors import UserError, one_line


class ArchiveError(UserError, RuntimeError):
    """An archive, a port or a setting that does not work; says what to do."""


class TryLater(ArchiveError):
    """Another machine does not answer or refuses, or the disk is full: no study's fault."""


def missing_extra(error: ImportError) -> ArchiveError:
    """Of a module that the extra ``pacs`` brings."""
    return ArchiveError(f"pe-unified pacs needs {error.name}: pip install -e '.[pacs]'")


def in_words(error: BaseException) -> str:
    """What may be logged of an error: messages of libraries can quote a header or a UID."""
    if isinstance(error, UserError):
        return one_line(str(error))
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__
