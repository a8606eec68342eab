"""PatientIDs in DICOM headers that identify nobody."""

#: Values that anonymisers write instead of an identifier.
_PLACEHOLDERS = frozenset(
    (
        *("", "0", "1", "-", "n/a", "na", "none", "null", "unknown", "removed"),
        *("anon", "anonymous", "anonymized", "anonymised", "deidentified", "de-identified"),
    )
)
#: An identifier shared by more studies than this is a placeholder, too.
_MOST_STUDIES = 20


def is_placeholder(identifier: str, studies: int) -> bool:
    """Whether a PatientID, shared by this many studies, does not identify a patient."""
    return identifier.strip().lower() in _PLACEHOLDERS or studies > _MOST_STUDIES
