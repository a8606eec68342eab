import pytest
from headers import header

from pe_unified.ct.kinds import Contrast, Kind, contrast_of, kind_of, not_hounsfield

NO_AGENT = """NONE, none, No, C-, c -, IV-, (-), -, W/O, w/o contrast, WO, WITHOUT
Without IV contrast, KEIN, keine KM, Kein Kontrastmittel, ohne KM, KM: nein, SANS
sans injection, NATIV, native, NON, Non-contrast, unenhanced, N/A, None given
no contrast, ORAL, oral contrast only, ZONDER, SENZA
IV CONTRAST NONE, CONTRAST AGENT: NONE, IV CONTRAST: NO, KM IV NEIN
CONTRAST MEDIA NOT GIVEN, IV CONTRAST NOT GIVEN, PO CONTRAST, SALINE, no contrast due to allergy
NO ORAL/IV CONTRAST, no oral and IV contrast, without oral / IV, no IV no oral
0, 0 ML, no oral contrast"""
AGENTS = """OMNIPAQUE 350, Non-ionic contrast, nonionic, ULTRAVIST, YES, C+, IV, & CONTRAST
IV ISOVUE, Xenetix 350, oral and IV, mit KM, Natrium-Iothalamat, Novolux
ISOVUE-370, Iomeron 400-, Niopam, SINOGRAFIN, applied
NO REACTION ISOVUE, no known allergies; Omnipaque, IV CONTRAST, CONTRAST MEDIA NON-IONIC
0.5 ML/KG OMNIPAQUE 350"""


def listed(texts):
    return [text.strip() for line in texts.splitlines() for text in line.split(", ")]


@pytest.mark.parametrize("agent", listed(NO_AGENT))
def test_a_text_may_say_that_there_is_no_agent(agent):
    assert contrast_of(header(1, contrast=agent)) is Contrast.NONE


@pytest.mark.parametrize(
    "agent",
    [
        *("NO ORAL, IV OMNIPAQUE 350", "no oral contrast; I.V. Ultravist", "no oral. IV Ultravist"),
        *("NO ORAL CONTRAST / IV ISOVUE 370", "no oral and IV Omnipaque", "no oral & IV Omnipaque"),
        *("WITHOUT ORAL, WITH IV CONTRAST", "IV w/o oral", "IV contrast, no oral contrast"),
    ],
)
def test_no_oral_contrast_says_nothing_of_the_intravenous_one(agent):
    assert contrast_of(header(1, contrast=agent)) is Contrast.NAMED
    assert contrast_of(header(1, contrast="no oral, IV none")) is Contrast.NONE


@pytest.mark.parametrize("agent", listed(AGENTS))
def test_an_agent_is_named(agent):
    assert contrast_of(header(1, contrast=agent)) is Contrast.NAMED


@pytest.mark.parametrize("agent", ["", "unknown", "Not specified", "IV contrast: not known"])
def test_silence_says_nothing_of_an_agent(agent):
    assert contrast_of(header(1, contrast=agent)) is Contrast.UNKNOWN


@pytest.mark.parametrize(
    ("image_type", "description", "kind"),
    [
        ("ORIGINAL/PRIMARY/AXIAL/CT_SOM5 SPI", "", Kind.ORIGINAL),
        ("", "", Kind.ORIGINAL),
        ("ORIGINAL/PRIMARY/AXIAL", "CTPA and MIP", Kind.ORIGINAL),
        ("DERIVED/SECONDARY/AXIAL", "Thorax 1.0 iodine 350", Kind.DERIVED),
        ("DERIVED/SECONDARY", "", Kind.DERIVED),
        ("DERIVED/PRIMARY/AXIAL/VMI", "", Kind.MONOENERGETIC),
        ("DERIVED/SECONDARY/AXIAL", "MonoE 40 keV", Kind.MONOENERGETIC),
        ("DERIVED/PRIMARY/AXIAL/CT_SOM7 DUAL MONO_70KEV", "", Kind.MONOENERGETIC),
        ("DERIVED/SECONDARY/MPR", "", Kind.REFORMATTED),
        ("DERIVED/SECONDARY/REFORMATTED/AVERAGE", "", Kind.AVERAGE),
        ("DERIVED/PRIMARY/AXIAL/CT_SOM5 MIP", "", Kind.PROJECTION),
        ("DERIVED/SECONDARY/AXIAL/MAX_IP", "", Kind.PROJECTION),
        ("DERIVED/SECONDARY/REFORMATTED/MIN_IP", "", Kind.PROJECTION),
        ("DERIVED/SECONDARY/AXIAL/MAT_REMOVED", "", Kind.NON_CONTRAST),
        ("DERIVED/SECONDARY/AXIAL", "VNC 3.0", Kind.NON_CONTRAST),
    ],
)
def test_kinds(image_type, description, kind):
    one = header(1, image_type=tuple(image_type.split("/")), description=description.upper())
    assert kind_of(one) is kind and not_hounsfield(one) is None


def test_other_units_than_hounsfield():
    plain = ("DERIVED", "SECONDARY", "AXIAL")
    assert not_hounsfield(header(1, unit="MGML")) == "image in MGML, not in Hounsfield units"
    for changes in (
        {"image_type": (*plain, "IODINE_MAP")},
        {"image_type": (*plain, "MAT_SPECIFIC")},
        {"image_type": (*plain, "Z_EFF")},
        {"image_type": plain, "description": "IODINE MAP 3.0"},
        {"image_type": plain, "description": "IODINE(WATER) 70"},
        {"image_type": plain, "description": "WATER(IODINE)"},
    ):
        assert "map of a material" in not_hounsfield(header(1, **changes))
