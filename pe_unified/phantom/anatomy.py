"""The anatomy on which a study is painted, generated or from a patient's label map."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pe_unified.phantom.grid import Field
from pe_unified.phantom.tree import VesselTree
from pe_unified.phantom.tubes import Tubes


@dataclass(frozen=True)
class HeartFrame:
    """Position and shape of the heart.

    Attributes:
        centre: (x, y, z) of the middle of the pericardium, mm.
        axes: (3, 3) unit rows: towards the apex, from the left to the right ventricle, across.
        radii: (3,) half-lengths along the axes, mm.
    """

    centre: np.ndarray
    axes: np.ndarray
    radii: np.ndarray

    def to_body(self, local: np.ndarray) -> np.ndarray:
        """Positions (n, 3) in the heart's axes, mm, converted to (x, y, z)."""
        return self.centre + np.asarray(local, dtype=np.float64) @ self.axes


@dataclass(frozen=True)
class Anatomy:
    """Shapes of one patient. Distances are signed, mm, negative inside.

    Attributes:
        name: the patient's label map, or "procedural".
        lung: distance to the lungs.
        cavity: distance to the inner wall of the chest, ignoring the diaphragm.
        abdomen: distance to the organs that bulge into the lungs from below the diaphragm.
        heart: frame of the heart; ``heart_limit`` is the distance to the room allowed for it.
        left_atrium: distance to the left atrium.
        arteries, veins: the pulmonary trees; a tree's volume is the union of its tubes and, if
            given, of ``artery_field`` or ``vein_field`` (distances).
        systemic: tubes by name, as in ``phantom.thorax.SYSTEMIC``.
        airway: lumen of trachea and main bronchi.
        oesophagus: tubes.
        spine: (m, 3) centres of the vertebral bodies, from bottom to top.
        apex_z, base_z: top and bottom of the lungs, mm.
        limits_z: lowest and highest possible slice, mm.
    """

    name: str
    lung: Field
    cavity: Field
    abdomen: Field
    heart: HeartFrame
    heart_limit: Field
    left_atrium: Field
    arteries: VesselTree
    veins: VesselTree
    artery_field: Field | None
    vein_field: Field | None
    systemic: Mapping[str, Tubes]
    airway: Tubes
    oesophagus: Tubes
    spine: np.ndarray
    apex_z: float
    base_z: float
    limits_z: tuple[float, float]
