"""What a series shows, by its own words: the scan as measured, or what was computed from it."""

import re
from enum import IntEnum
from functools import lru_cache

from pe_unified.ct.headers import SliceHeader


class Kind(IntEnum):
    """The lower, the nearer to what the scanner measured."""

    ORIGINAL = 0
    #: Also what archives write on plain reconstructions when they copy or de-identify them.
    DERIVED = 1
    #: In Hounsfield units, as at one energy; the only series of some dual-energy scanners.
    MONOENERGETIC = 2
    REFORMATTED = 3
    AVERAGE = 4
    #: From here on, tissue or contrast of the scan is missing: never instead of a scan.
    PROJECTION = 5
    NON_CONTRAST = 6
    RENDERING = 7

    @property
    def shows_the_scan(self) -> bool:
        return self < Kind.PROJECTION


class Contrast(IntEnum):
    """What a series says of an intravenous contrast agent."""

    NAMED = 0
    UNKNOWN = 1
    NONE = 2


#: What a chosen series is, where it is not plainly the scan.
KIND_NAMES = {
    Kind.MONOENERGETIC: "virtual monoenergetic images",
    Kind.REFORMATTED: "images reformatted from other slices",
    Kind.AVERAGE: "averages of several images",
    Kind.PROJECTION: "projections through several slices (MIP or MinIP)",
    Kind.NON_CONTRAST: "virtual non-contrast images, in which no contrast is left",
    Kind.RENDERING: "renderings, not slices",
}
#: In the words of an image type or of a description, separated by single spaces.
_KINDS = (
    (Kind.NON_CONTRAST, r"VNC|VUE|TNC|MAT REMOVED|VIRTUAL (NON ?CONTRAST|UNENHANCED|NATIVE?)"),
    (Kind.PROJECTION, r"(THIN |THICK )?(MIP|MIPS|MINIP|MAXIP)|(MAX|MIN) IP|(MAX|MIN)\w* INTENSITY"),
    (Kind.RENDERING, r"VRT|(VOLUME|SURFACE) RENDER\w*|SSD"),
    (Kind.MONOENERGETIC, r"VMI|MONO\w*|MONO ?E|\d* ?KEV"),
    (Kind.AVERAGE, r"AVERAGE\w*|AVG|ADDITION"),
    (Kind.REFORMATTED, r"(CSA ?)?(MPR|CPR)|REFORMAT\w*|MULTI ?PLANAR|CURVED"),
)
_KIND_PATTERNS = [(kind, re.compile(rf"\b({words})\b")) for kind, words in _KINDS]
#: Images of materials or of differences, in the words of an image type.
_NOT_HU = re.compile(
    r"\b(MAT (SPECIFIC|FRACTIONAL|MODIFIED|VALUE BASED)|EFF\w* ATOMIC\w*|Z ?EFF\w*|EFFECTIVE Z"
    r"|ELECTRON DENSITY|DENSITY MAP|IODINE|PBV|SUBTRACT\w*)\b"
)
#: The same in a description, which may also say iodine of the contrast agent.
_MATERIAL = "(IODINE|WATER|CALCIUM|HAP|FAT)"
_MAP = re.compile(
    rf"\b(IODINE (MAPS?|DENSITY|OVERLAY)|{_MATERIAL} (NO )?{_MATERIAL}|JODKARTE|PBV|Z ?EFF\w*)\b"
)


_DENIALS = (
    r"NO|NON|NONE|NOT|N|NEIN|NIL|NULL|NEG\w*|FALSE|0|WITHOUT|W ?O|KEIN\w*|OHNE|SANS|AUCUN\w*"
    r"|NATIV\w*|NATIF|SENZA|SIN|SEM|ZONDER|GEEN|BEZ|UTAN|INGEN\w*|UDEN|UTEN|UNENHANCED|PLAIN"
    r"|(NON ?|UN|PRE ?)(CONTRAST|ENHANCED|CE)|N A|NA"
)
#: Not into a vein.
_ORAL = r"(?:PER )?(?:ORAL\w*|RECTAL\w*|P ?O|WATER|SALINE|NACL)(?: CONTRAST)?(?: ONLY)?"
#: Words before a denial that name no agent.
_GENERIC = r"(?:(?:I ?V|KM|CM|CE|CONTRAST\w*|KONTRAST\w*|MEDI\w*|AGENTS?) )*"
#: Denied of an agent that was given.
_HARMLESS = r"NON ?IONI|NO (?:(?:KNOWN|ADVERSE|PRIOR|IMMEDIATE) )?(?:REACTION|ALLERG|COMPLICATION)"
#: A denial denies what follows it.
_NO_CONTRAST = re.compile(rf"{_GENERIC}(?!{_HARMLESS})(?:{_DENIALS})(?: .*)?|{_ORAL}")
_UNKNOWN = re.compile(
    rf"({_GENERIC}(UNK\w*|UNSPECIFIED|NOT (KNOWN|SPECIFIED|STATED|RECORDED)|ANONYM\w*))?"
)


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.upper().replace("_", " ")))


def _is_original(header: SliceHeader) -> bool:
    return header.image_type[:1] in ((), ("",), ("ORIGINAL",))


def kind_of(header: SliceHeader) -> Kind:
    """By the image type; by the description of the series too where that does not say ORIGINAL."""
    said = " ".join((*header.image_type[2:], header.technique))
    if _is_original(header):
        return _kind_said(said, Kind.ORIGINAL)
    return _kind_said(f"{said} {header.description}", Kind.DERIVED)


@lru_cache(maxsize=256)  # the slices of a series say the same
def _kind_said(said: str, otherwise: Kind) -> Kind:
    words = _words(said)
    return next((kind for kind, pattern in _KIND_PATTERNS if pattern.search(words)), otherwise)


def not_hounsfield(header: SliceHeader) -> str | None:
    """What the pixels are instead of Hounsfield units; None where nothing says so."""
    if header.unit:
        return f"image in {header.unit}, not in Hounsfield units"
    found = _NOT_HU.search(_words(" ".join(header.image_type[2:])))
    if found is None and not _is_original(header):
        found = _MAP.search(_words(header.description))
    return f"map of a material ({found[0].lower()}), not in Hounsfield units" if found else None


def contrast_of(header: SliceHeader) -> Contrast:
    """A text such as NONE, C-, W/O or NATIV names no agent, and says that there is none."""
    words = _words(header.contrast)
    # C-, IV-, (-): a minus after an abbreviation, or alone.
    if re.fullmatch(r"[A-Z./ ]{0,4}\(?-+\)?", header.contrast.upper()):
        return Contrast.NONE
    if _UNKNOWN.fullmatch(words):
        return Contrast.UNKNOWN
    return Contrast.NONE if _NO_CONTRAST.fullmatch(words) else Contrast.NAMED
