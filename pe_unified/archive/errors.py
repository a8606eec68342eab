"""Errors between two machines, in words that name no patient."""

from pe_unified.errors import UserError, one_line, pip_install


class ArchiveError(UserError, RuntimeError):
    """An archive, a port or a setting that does not work; says how to fix it."""


class TryLater(ArchiveError):
    """Another machine does not answer or refuses, or the disk is full; not the study's fault."""


class NotThere(TryLater):
    """An archive does not have what it was asked for."""


def port_not_available(where: str, error: OSError, setting: str) -> ArchiveError:
    """The error for a port that cannot be opened; ``setting`` is its place in the settings."""
    return ArchiveError(
        f"{where} is not available ({error.strerror}); end what listens there, choose another "
        f"{setting}.port, or check {setting}.host: it must be an address of this machine"
    )


def missing_extra(error: ImportError) -> ArchiveError:
    """The error for a missing module of the extra ``pacs``."""
    return ArchiveError(f"pe-unified pacs needs {error.name}: {pip_install('pacs')}")


def in_words(error: BaseException) -> str:
    """Loggable words for an error: messages of libraries can quote a header or a UID."""
    if isinstance(error, UserError):
        return one_line(str(error))
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__
