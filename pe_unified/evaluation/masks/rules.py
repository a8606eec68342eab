"""The rules of an evaluation of masks and marks; they can affect results more than the model."""

from dataclasses import dataclass

from pe_unified.evaluation.froc import EPSILONS_MM, FALSE_POSITIVE_RATES, SMALLEST_MM3


@dataclass(frozen=True)
class Rules:
    """The rules for counting, which are printed with the result.

    Attributes:
        connectivity: 6, 18 or 26, for the components of masks.
        instances: every number in the reference is one lesion, even in several parts.
        smallest_mm3: smaller lesions of the reference are not counted: missing them has no effect,
            and predictions only on them are neither true nor false.
        epsilons_mm: a mark finds a lesion within this distance.
        rates: false positives per scan at which sensitivity is reported.
        threshold: a voxel with at least this probability is in the mask.
        mark_threshold: components of voxels with at least this probability are marks.
        tolerance_mm: tolerance of NSD.
        by_index: masks of the reference's shape are compared with it voxel by voxel, whatever their
            headers say.
    """

    connectivity: int = 26
    instances: bool = False
    smallest_mm3: float = SMALLEST_MM3
    epsilons_mm: tuple[float, ...] = EPSILONS_MM
    rates: tuple[float, ...] = FALSE_POSITIVE_RATES
    threshold: float = 0.5
    mark_threshold: float = 0.5
    tolerance_mm: float = 1.0
    by_index: bool = False

    def in_words(self) -> list[str]:
        """Each rule as a sentence."""
        lesion = (
            "each label value of the reference, even in several separate parts"
            if self.instances
            else f"a {self.connectivity}-connected part of the reference"
        )
        near = ", ".join(f"{each:g}" for each in self.epsilons_mm)
        return [
            f"A lesion is {lesion}.",
            f"Lesions smaller than {self.smallest_mm3:g} mm3 are not counted; marks and components "
            "on them alone are neither true nor false.",
            f"A mark finds every lesion within epsilon ({near} mm). The distance is 0 inside a "
            "voxel of the lesion, otherwise it is measured to the nearest voxel face. A mark near "
            "no lesion is false; a second mark on a found lesion is neither true nor false.",
            "Marks of a file are taken as they are. Otherwise each "
            f"{self.connectivity}-connected component of a prediction gives one mark. With "
            f"probabilities (from {self.mark_threshold:g}) it is the voxel of the maximum, and the "
            "maximum is its confidence; with a plain mask it is the voxel nearest to the centroid, "
            "with confidence 1.",
            "Sensitivity at a number of false positives per scan is taken at the lowest confidence "
            "with no more false positives; after the last mark of a system it stays constant.",
            "By overlap, a lesion is found if it shares a voxel with the prediction, and a "
            f"{self.connectivity}-connected component is false if it shares none with any lesion. "
            "Precision is found / (found + false), recall found / lesions, F1 their harmonic mean.",
            "Dice, distances and volumes use all voxels of both masks, small lesions included; "
            f"probabilities from {self.threshold:g} belong to the mask.",
            "Surfaces are voxels with a face outside the mask. ASSD is the mean distance of all "
            "surface voxels of both masks; HD95 the larger of the two directed 95th percentiles; "
            f"NSD the share of them within {self.tolerance_mm:g} mm of the other surface.",
            "A case with both masks empty is left out of averages and counted apart; with one "
            "empty, Dice and NSD are 0, and its distances are undefined and counted.",
        ]
