"""Masks of synthetic emboli, correct and mirrored: which ones the check of own data refuses."""

from collections.abc import Sequence
from dataclasses import dataclass

from pe_unified.benchmarks.painted_truth import as_study
from pe_unified.converters.own.fit import fit_of
from pe_unified.converters.own.placing import MIRROR_IMAGES
from pe_unified.phantom.study import PhantomStudy


@dataclass(frozen=True)
class Placings:
    """Results of one study.

    Attributes:
        pixels: number of pixels of its emboli.
        refused: whether the true mask was refused.
        mirrored, caught, named: numbers of mirror images, of those refused, and of those whose
            correction was named.
    """

    pixels: int
    refused: bool
    mirrored: int
    caught: int
    named: int


def check_placings(painted: PhantomStudy) -> Placings | None:
    """Check the mask of a study in all eight orientations; None if it has no embolus."""
    study = as_study(painted.hu, painted.spacing)
    if not painted.emboli.any():
        return None
    fits = {image: fit_of(image.turned(painted.emboli), study) for image in MIRROR_IMAGES}
    right, *mirrored = fits.items()
    return Placings(
        pixels=int((painted.emboli > 0).sum()),
        refused=bool(right[1].reasons),
        mirrored=len(mirrored),
        caught=sum(bool(fit.reasons) for _, fit in mirrored),
        named=sum(fit.better == image for image, fit in mirrored),
    )


def summarise_placings(studies: Sequence[Placings | None]) -> dict[str, dict[str, int]]:
    """Totals over all studies."""
    known = [each for each in studies if each is not None]
    return {
        "true masks": {
            "studies": len(known),
            "fewest pixels": min((each.pixels for each in known), default=0),
            "refused": sum(each.refused for each in known),
        },
        "mirror images": {
            "tried": sum(each.mirrored for each in known),
            "refused": sum(each.caught for each in known),
            "named by the right words": sum(each.named for each in known),
        },
    }
