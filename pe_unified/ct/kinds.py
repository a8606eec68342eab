"""The kind of a series by its own statements: the measured scan, or something computed from it."""

import re
from enum import IntEnum
from functools import lru_cache

from pe_unified.ct.headers import SliceHeader


class Kind(IntEnum):
    """Kinds of images; lower values are closer to the measured data."""

    ORIGINAL = 0
    #: Archives also write this on plain reconstructions when they copy or de-identify them.
    DERIVED = 1
    #: In Hounsfield units, as at one energy; the only series of some dual-energy scanners.
    MONOENERGETIC = 2
    REFORMATTED = 3
    AVERAGE = 4
    #: From here on, tissue or contrast is missing: never to be used instead of a scan.
    PROJECTION = 5
    NON_CONTRAST = 6
    RENDERING = 7

    @property
    def shows_the_scan(self) -> bool:
        return self < Kind.PROJECTION


class Contrast(IntEnum):
    """What a series says about an intravenous contrast agent."""

    NAMED = 0
    UNKNOWN = 1
    NONE = 2


#: Names of the kinds that are not plainly the scan.
KIND_NAMES = {
    Kind.MONOENERGETIC: "virtual monoenergetic images",
    Kind.REFORMATTED: "images reformatted from other slices",
    Kind.AVERAGE: "averages of several images",
    Kind.PROJECTION: "projections through several slices (MIP or MinIP)",
    Kind.NON_CONTRAST: "virtual non-contrast images, in which no contrast is left",
    Kind.RENDERING: "renderings, not slices",
}
#: Patterns for an image type or a description, with words separated by single spaces.
_KINDS = (
    (Kind.NON_CONTRAST, r"VNC|VUE|TNC|MAT REMOVED|VIRTUAL (NON ?CONTRAST|UNENHANCED|NATIVE?)"),
    (Kind.PROJECTION, r"(THIN |THICK )?(MIP|MIPS|MINIP|MAXIP)|(MAX|MIN) IP|(MAX|MIN)\w* INTENSITY"),
    (Kind.RENDERING, r"VRT|(VOLUME|SURFACE) RENDER\w*|SSD"),
    (Kind.MONOENERGETIC, r"VMI|MONO\w*|MONO ?E|\d* ?KEV"),
    (Kind.AVERAGE, r"AVERAGE\w*|AVG|ADDITION"),
    (Kind.REFORMATTED, r"(CSA ?)?(MPR|CPR)|REFORMAT\w*|MULTI ?PLANAR|CURVED"),
)
_KIND_PATTERNS = [(kind, re.compile(rf"\b({words})\b")) for kind, words in _KINDS]
#: Images of materials or of differences, by the image type.
_NOT_HU = re.compile(
    r"\b(MAT (SPECIFIC|FRACTIONAL|MODIFIED|VALUE BASED)|EFF\w* ATOMIC\w*|Z ?EFF\w*|EFFECTIVE Z"
    r"|ELECTRON DENSITY|DENSITY MAP|IODINE|PBV|SUBTRACT\w*)\b"
)
#: The same by the description, in which iodine may also mean the contrast agent.
_MATERIAL = "(IODINE|WATER|CALCIUM|HAP|FAT)"
_MAP = re.compile(
    rf"\b(IODINE (MAPS?|DENSITY|OVERLAY)|{_MATERIAL} (NO )?{_MATERIAL}|JODKARTE|PBV|Z ?EFF\w*)\b"
)


_DENIALS = (
    r"NO|NON|NONE|NOT|N|NEIN|NIL|NULL|NEG\w*|FALSE|0(?! \d)|WITHOUT|W ?O|KEIN\w*|OHNE|SANS|AUCUN\w*"
    r"|NATIV\w*|NATIF|SENZA|SIN|SEM|ZONDER|GEEN|BEZ|UTAN|INGEN\w*|UDEN|UTEN|UNENHANCED|PLAIN"
    r"|(NON ?|UN|PRE ?)(CONTRAST|ENHANCED|CE)|N A|NA"
)
#: Contrast that is not intravenous.
_ORAL = r"(?:PER )?(?:ORAL\w*|RECTAL\w*|P ?O|WATER|SALINE|NACL)(?: CONTRAST)?(?: ONLY)?"
#: Words before a negation that name no agent.
_GENERIC = r"(?:(?:I ?V|KM|CM|CE|CONTRAST\w*|KONTRAST\w*|MEDI\w*|AGENTS?) )*"
#: Negations that do not deny the agent.
_HARMLESS = r"NON ?IONI|NO (?:(?:KNOWN|ADVERSE|PRIOR|IMMEDIATE) )?(?:REACTION|ALLERG|COMPLICATION)"
#: A negation applies to what follows it.
_NO_CONTRAST = re.compile(rf"{_GENERIC}(?!{_HARMLESS})(?:{_DENIALS})(?: .*)?|{_ORAL}")
#: A negation of oral contrast alone, before a clause on the intravenous one or after it. Joined by
#: "and" or a slash, it denies both, unless the clause names an agent.
_NO_ORAL = re.compile(rf"(?:{_DENIALS}) {_ORAL}")
_IV_CLAUSE = re.compile(
    r"(?:[,;+.]|\bWITH\b|(?:[/&]|\bAND\b)(?!\W*I\W?V\W*(?:CONTRAST|$)))(?=\W*I\W?V\b)"
)
_ONLY_IV = re.compile(rf"(.*\bI\W?V\b.*?)[ ,;/]+(?:W/O|{_DENIALS}) {_ORAL}\W*")
_UNKNOWN = re.compile(
    rf"({_GENERIC}(UNK\w*|UNSPECIFIED|NOT (KNOWN|SPECIFIED|STATED|RECORDED)|ANONYM\w*))?"
)


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.upper().replace("_", " ")))


def _is_original(header: SliceHeader) -> bool:
    return header.image_type[:1] in ((), ("",), ("ORIGINAL",))


def kind_of(header: SliceHeader) -> Kind:
    """Kind by the image type; if that is not ORIGINAL, also by the description of the series."""
    said = " ".join((*header.image_type[2:], header.technique))
    if _is_original(header):
        return _kind_said(said, Kind.ORIGINAL)
    return _kind_said(f"{said} {header.description}", Kind.DERIVED)


@lru_cache(maxsize=256)  # the slices of a series say the same
def _kind_said(said: str, otherwise: Kind) -> Kind:
    words = _words(said)
    return next((kind for kind, pattern in _KIND_PATTERNS if pattern.search(words)), otherwise)


def not_hounsfield(header: SliceHeader) -> str | None:
    """What the pixels are if not Hounsfield units; None if nothing indicates that."""
    if header.unit:
        return f"image in {header.unit}, not in Hounsfield units"
    found = _NOT_HU.search(_words(" ".join(header.image_type[2:])))
    if found is None and not _is_original(header):
        found = _MAP.search(_words(header.description))
    return f"map of a material ({found[0].lower()}), not in Hounsfield units" if found else None


def contrast_of(header: SliceHeader) -> Contrast:
    """Interpret the contrast text; NONE, C-, W/O or NATIV mean that there is no agent."""
    text = header.contrast.upper()
    oral, *intravenous = _IV_CLAUSE.split(text, maxsplit=1)
    if intravenous and _NO_ORAL.fullmatch(_words(oral)):
        text = intravenous[0]
    elif only := _ONLY_IV.fullmatch(text):
        text = only[1]
    words = _words(text)
    # C-, IV-, (-): a minus sign after an abbreviation, or alone.
    if re.fullmatch(r"[A-Z./ ]{0,4}\(?-+\)?", text):
        return Contrast.NONE
    if _UNKNOWN.fullmatch(words):
        return Contrast.UNKNOWN
    return Contrast.NONE if _NO_CONTRAST.fullmatch(words) else Contrast.NAMED
