"""Whoever installs the package gets nothing that would bind their own work."""

import re
from importlib.metadata import Distribution, PackageNotFoundError, distribution

import pytest

_PERMISSIVE = re.compile(
    r"\b(MIT|(Free|0)?BSD|Apache|PSF|Python Software Foundation|CNRI-Python|ISCL?|Zlib|HPND|CC0"
    r"|BSL-1\.0|Unlicense)\b",
    re.IGNORECASE,
)
_COPYLEFT = re.compile(r"\b(A?L?GPL|GNU|MPL|Mozilla|EUPL|CeCILL|SSPL)", re.IGNORECASE)
#: What is not permissive, or does not say so, and why it may be required all the same.
EXCEPTIONS = {
    "tqdm": "MPL-2.0 binds the changed files of tqdm alone; it is used as it is",
    "certifi": "MPL-2.0 binds the changed files of certifi alone; it is used as it is",
    "opencv-python": "Apache-2.0, with Qt and FFmpeg under the LGPL; left out by `make setup`",
}
#: Extras that `make setup` installs for users; the others are installed by choice.
SHIPPED = ("cluster", "export", "pacs")
#: NVIDIA's own licence lets its CUDA libraries, which torch asks for, be passed on unchanged.
_NVIDIA = re.compile(r"nvidia-|cuda-toolkit$")
#: Libraries under a copyleft licence within wheels: beginnings of their names, and why they may be
#: there.
BUNDLED = {
    "shapely": (("libgeos",), "GEOS, LGPL-2.1: shared libraries that the user can replace"),
    "opencv-python-headless": (
        ("libav", "libsw"),
        "FFmpeg, LGPL-2.1: shared libraries that the user can replace",
    ),
}
_COPYLEFT_LIBRARIES = re.compile(
    r"(libgeos|libav(codec|format|util|device|filter)|libsw(scale|resample)|libx26[45]|libgmp"
    r"|libmpfr|libreadline|libfribidi|libQt|libfftw|libpoppler)"
)


def licence_of(package: Distribution) -> str:
    """What a package says of its licence: the expression, else the classifiers, else its text."""
    said = package.metadata
    classifiers = [
        line.rpartition(":: ")[2]
        for line in said.get_all("Classifier") or ()
        if line.startswith("License ::") and not line.endswith("OSI Approved")
    ]
    text = (said.get("License") or "")[:400]
    return said.get("License-Expression") or " AND ".join(classifiers) or text


def is_permissive(licence: str) -> bool:
    """Every part of an expression, or one of those that one may choose from."""
    return any(
        _PERMISSIVE.search(choice) and not _COPYLEFT.search(choice)
        for choice in re.split(r"\bOR\b", licence)
    )


def installed(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


@pytest.fixture(scope="module")
def packages(load_tool):
    """All that the package brings, by canonical name; None where it is not installed."""
    tool = load_tool("sbom")
    return {name: installed(name) for name in tool.required(tool.requirements(SHIPPED))}


def test_what_is_required_is_permissive(packages):
    assert len(packages) > 60, "the requirements of requirements are followed"
    wrong = {
        name: licence_of(package)[:80]
        for name, package in packages.items()
        if package is not None
        and not is_permissive(licence_of(package))
        and name not in EXCEPTIONS
        and not _NVIDIA.match(name)
    }
    assert wrong == {}
    assert {name for name, package in packages.items() if package is None} <= EXCEPTIONS.keys()


def test_copyleft_libraries_within_wheels_are_known(packages):
    found = {
        (name, file.name)
        for name, package in packages.items()
        if package is not None
        for file in package.files or ()
        if _COPYLEFT_LIBRARIES.match(file.name)
    }
    unknown = [
        (name, library)
        for name, library in sorted(found)
        if not library.startswith(BUNDLED.get(name, ((), ""))[0])
    ]
    assert unknown == []


@pytest.mark.parametrize(
    ("licence", "right"),
    [
        ("MIT", True),
        ("BSD-3-Clause AND 0BSD AND Zlib", True),
        ("GPL-3.0-or-later OR MIT", True),
        ("GNU General Public License v3 (GPLv3) AND MIT License", False),
        ("MPL-2.0 AND MIT", False),
        ("LGPL-2.1", False),
        ("Proprietary. Redistribution is not permitted.", False),
        ("Limited use license; the author disclaims all warranties", False),
        ("CC-BY-NC-4.0 with limited grant", False),
        ("", False),
    ],
)
def test_the_judge_itself(licence, right):
    assert is_permissive(licence) is right
