"""Attenuation of every tissue, painted slice by slice in anatomical order."""

from dataclasses import dataclass

import cv2
import numpy as np

from pe_unified.phantom.anatomy import Anatomy
from pe_unified.phantom.confounders import Confounders
from pe_unified.phantom.emboli import PaintedEmboli
from pe_unified.phantom.gas import Gas
from pe_unified.phantom.grid import Field, Grid, coverage, ellipsoid, random_field
from pe_unified.phantom.heart import Heart
from pe_unified.phantom.lung_trees import bronchi_beside
from pe_unified.phantom.spine import spine_patch
from pe_unified.phantom.study_plan import PaintingPlan
from pe_unified.phantom.tree import VesselTree
from pe_unified.phantom.tubes import paint_tubes
from pe_unified.phantom.wall import Wall

#: Values of the map of structures.
STRUCTURES = {
    "lung": 1,
    "artery": 2,
    "vein": 3,
    "airway": 4,
    "right_ventricle": 5,
    "left_ventricle": 6,
    "right_atrium": 7,
    "aorta": 8,
    "svc": 9,
    "bone": 10,
}
_AIR = -1000.0


@dataclass(frozen=True)
class Scene:
    """Everything to be painted."""

    plan: PaintingPlan
    anatomy: Anatomy
    wall: Wall
    heart: Heart
    emboli: PaintedEmboli
    confounders: Confounders
    gas: Gas | None = None


def vessel_coverage(grid: Grid, tree: VesselTree, field: Field | None) -> np.ndarray:
    """Coverage of a vascular tree: uint8 (slices, rows, cols), 255 inside.

    A ``field`` of the patient's own vessels gives the shape, if there is one; the tubes then only
    join what it is too coarse to show.
    """
    volume = np.zeros(grid.shape, dtype=np.uint8)
    if field is None:
        paint_tubes(volume, grid, tree.tubes())
        return volume
    paint_tubes(volume, grid, tree.tubes(tree.radius < 3.0).grown(factor=0.75))
    for k in range(grid.shape[0]):
        plane = coverage(field.plane(grid.z_of(k), grid), grid.pixel)
        np.maximum(volume[k], np.rint(plane * 255).astype(np.uint8), out=volume[k])
    return volume


def _mix(plane: np.ndarray, share: np.ndarray, value: np.ndarray | float) -> None:
    """Let ``share`` of each pixel take ``value``, in place."""
    plane += share * (value - plane)


class Painter:
    """Paints the slices of a scene one after another, from bottom to top."""

    def __init__(self, scene: Scene, grid: Grid, arteries: np.ndarray) -> None:
        self.scene, self.grid, self.arteries = scene, grid, arteries
        plan = scene.plan
        anatomy, wall = scene.anatomy, scene.wall
        rng = plan.rng("tissue")
        self.strand = random_field(rng, grid, 9.0)
        self.cloud = random_field(rng, grid, 26.0)
        self.mottle = random_field(rng, grid, 5.0)
        lumen, outer = bronchi_beside(anatomy.arteries, anatomy.lung)
        tubes = {
            "bone": wall.bone,
            "marrow": wall.marrow,
            "cartilage": wall.cartilage,
            "airway_wall": anatomy.airway.grown(1.4),
            "airway": anatomy.airway,
            "bronchus_wall": outer,
            "bronchus": lumen,
            "oesophagus": anatomy.oesophagus,
            "node": scene.confounders.nodes,
            "defect": scene.confounders.defect,
            **{name: part for name, part in anatomy.systemic.items()},
        }
        if scene.gas is not None:
            tubes |= {"bowel_wall": scene.gas.bowel.grown(2.5), "bowel": scene.gas.bowel}
        self.parts: dict[str, np.ndarray] = {}
        for name, part in tubes.items():
            volume = np.zeros(grid.shape, dtype=np.uint8)
            paint_tubes(volume, grid, part)
            self.parts[name] = volume
        self.veins = vessel_coverage(grid, anatomy.veins, anatomy.vein_field)
        self.dim = np.zeros(grid.shape, dtype=np.uint8)
        paint_tubes(self.dim, grid, scene.confounders.dimmed)
        self.table = self._table()
        self.planes: dict[int, np.ndarray] = {}
        self.planes_z = float("nan")
        self.pitch = (anatomy.apex_z - anatomy.base_z) / 11.5
        self.hu_spread = rng.normal(0, 1, 12)

    def _share(self, name: str, k: int) -> np.ndarray | None:
        plane = self.parts[name][k]
        return plane * np.float32(1 / 255) if plane.any() else None

    def _plane(self, field: Field, z: float) -> np.ndarray:
        """The field on the pixels of a slice; the present slice is cached."""
        if z != self.planes_z:
            self.planes, self.planes_z = {}, z
        if id(field) not in self.planes:
            self.planes[id(field)] = field.plane(z, self.grid)
        return self.planes[id(field)]

    def _fill(self, plane: np.ndarray, field: Field, z: float, value: np.ndarray | float) -> None:
        """Let the inside of a surface take ``value``, in place."""
        if field.reaches(self.grid.pixel, z):
            _mix(plane, coverage(self._plane(field, z), self.grid.pixel), value)

    def _table(self) -> np.ndarray:
        """Air and the scanner's table, two thin shells with foam between; same for all slices."""
        plane = np.full(self.grid.shape[1:], _AIR, dtype=np.float32)
        x, y, _ = self.grid.axes()
        away = x[0] - np.float32(self.scene.wall.middle_x)
        if self.scene.gas is not None and self.scene.gas.table_gap_mm:
            gap = np.float32(self.scene.gas.table_gap_mm)
            # The table rises towards the sides and meets the back there.
            depth = y[0] - np.float32(self.scene.wall.back_y) - gap + (gap + 4) * (away / 95) ** 2
            inside = (np.abs(away) < 170) & (depth > 0)
            _mix(plane, inside & (depth < 40), -945.0)
            for at in (3.0, 37.0):
                _mix(plane, inside * coverage(np.abs(depth - at) - 3, self.grid.pixel), 120.0)
            return plane
        depth = y[0] - np.float32(self.scene.wall.back_y + 3) + away**2 / 1500
        inside = (np.abs(away) < 205) & (depth > 0)
        _mix(plane, inside & (depth < 34), -940.0)
        for at, value in ((1.0, -480.0), (33.0, -380.0)):
            _mix(plane, inside * coverage(np.abs(depth - at) - 0.9, self.grid.pixel), value)
        return plane

    def _outside(self, z: float) -> tuple[np.ndarray, np.ndarray]:
        """Skin, fat and muscle; returns the plane and the noise used for its texture."""
        wall, spread = self.scene.wall, self.hu_spread
        grain, cloud = self._plane(self.strand, z), self._plane(self.cloud, z)
        plane = self.table.copy()
        body = self._plane(wall.body, z)
        _mix(plane, coverage(body, self.grid.pixel), 35.0)
        fat = -104 + 5 * grain + 3 * spread[0]
        _mix(plane, coverage(body + 1.8, self.grid.pixel), fat)
        septa = np.clip(1 - np.abs(grain + 0.4 * cloud) / 0.13, 0, 1) * 0.4
        _mix(plane, septa * coverage(body + 4, 3.0), -40.0)
        if self.scene.plan.sex == "F":
            gland = np.maximum(self._plane(wall.breast, z) + 9 * cloud + 4 * grain, body + 6)
            _mix(plane, coverage(gland, 4.0) * 0.85, 25.0)
        muscle = self._plane(wall.muscle, z) + 1.2 * cloud
        tissue = 56 + 4 * spread[1] + 5 * grain
        _mix(plane, coverage(muscle, self.grid.pixel), tissue)
        # Fat planes between the muscle layers run roughly along the chest wall.
        depth = (muscle + 7 * cloud) / 16
        layer = np.abs(depth - np.rint(depth)) * 16
        planes = np.clip(1.5 - layer, 0, 1) * np.clip(0.15 + 0.8 * grain, 0, 0.75)
        _mix(plane, planes * coverage(muscle + 3, 3.0), -50.0)
        return plane, grain

    def _organs(self, plane: np.ndarray, z: float, grain: np.ndarray, k: int) -> None:
        """Fat of the mediastinum, organs below the diaphragm, heart, great vessels."""
        scene, plan, spread = self.scene, self.scene.plan, self.hu_spread
        cavity = coverage(self._plane(scene.anatomy.cavity, z), self.grid.pixel)
        _mix(plane, cavity, -92 + 9 * grain)
        paraspinal = self._plane(self.scene.wall.paraspinal, z) + 3
        _mix(plane, cavity * coverage(paraspinal, self.grid.pixel), 54 + 4 * spread[1] + 5 * grain)
        self._abdomen(plane, z, grain)
        if scene.gas is not None:
            self._gas(scene.gas, plane, z, grain, k)
        heart = scene.heart
        self._fill(plane, heart.muscle, z, 92 + 6 * spread[4] + 3 * grain)
        right = plan.right_heart_hu * (1 + 0.05 * grain)
        for field, value in (
            (heart.right_ventricle, right),
            (heart.right_atrium, right * (1 - 0.13 * np.abs(self._plane(self.cloud, z)))),
            (heart.left_ventricle, plan.left_heart_hu * (1 + 0.02 * grain)),
            (heart.left_atrium, plan.vein_hu * (1 + 0.02 * grain)),
        ):
            self._fill(plane, field, z, value)
        for name, value in (
            ("oesophagus", 42.0),
            ("arch_branches", plan.aorta_hu),
            ("aorta", plan.aorta_hu),
            ("brachiocephalic", min(plan.svc_hu, 700.0) * 0.75),
            ("svc", plan.svc_hu),
            ("ivc", 118 + 16 * grain),
            ("azygos", 0.6 * plan.aorta_hu),
            ("airway_wall", 40.0),
            ("airway", -985.0),
        ):
            share = self._share(name, k)
            if share is not None:
                _mix(plane, share, value)

    def _abdomen(self, plane: np.ndarray, z: float, grain: np.ndarray) -> None:
        """Liver on the right; spleen behind and stomach in front on the left."""
        abdomen = self.scene.anatomy.abdomen
        if not abdomen.reaches(self.grid.pixel, z):
            return
        distance = self._plane(abdomen, z)
        if distance.min() > self.grid.pixel:
            return
        spread, width = self.hu_spread, self.grid.pixel
        x, y, _ = self.grid.axes()
        x = x[0] - np.float32(np.median(self.scene.anatomy.spine[:, 0]))
        y = y[0] - np.float32(self.scene.anatomy.heart.centre[1])
        inside = coverage(distance, width)
        cloud = self._plane(self.cloud, z)
        _mix(plane, coverage(distance, 3.0), -98 + 8 * grain)
        # The left lobe of the liver reaches across the midline in front.
        edge = x - (22 - 0.55 * np.clip(y, -70, 10) + 7 * cloud)
        beside_spine = 0.72 * (y - 44) + 0.6 * (x + 34)
        liver = np.maximum(np.maximum(distance + 0.5, edge), beside_spine + 3 * cloud)
        _mix(plane, coverage(liver, width), 82 + 7 * spread[2] + 4 * grain)
        rim = np.sqrt(((x - 78) / 46) ** 2 + ((y - 44 - 6 * spread[6]) / 34) ** 2)
        spleen = np.maximum(distance + 2, (rim - 1) * 34 + 4 * cloud)
        _mix(plane, coverage(spleen, width), 112 + 8 * spread[3] + 3 * grain)
        oval = np.sqrt(((x - 58 - 5 * spread[7]) / 42) ** 2 + ((y + 4) / 34) ** 2)
        stomach = np.maximum(np.maximum(distance + 4, 4 - edge), (oval - 1) * 34 + 3 * cloud)
        stomach = np.maximum(stomach, 3 - spleen)
        _mix(plane, coverage(stomach, width), 55.0)
        _mix(plane, coverage(stomach + 4, width), 22 + 6 * grain)
        gas = np.maximum(stomach + 4, y + 10 - 9 * spread[5])
        _mix(plane, inside * coverage(gas, width), -960.0)

    def _gas(self, gas: Gas, plane: np.ndarray, z: float, grain: np.ndarray, k: int) -> None:
        """The requested gas in stomach and bowel."""
        x, y, _ = self.grid.axes()
        distance = self._plane(self.scene.anatomy.abdomen, z) + np.float32(1)
        if gas.stomach is not None:
            centre, radii = gas.stomach
            outer = np.maximum(
                ellipsoid((x, y, np.full((1, 1, 1), z, np.float32)), centre, radii)[0], distance
            )
            inner = outer + np.float32(4)
            _mix(plane, coverage(outer, self.grid.pixel), 50.0)
            _mix(plane, coverage(inner, self.grid.pixel), 15 + 6 * grain)
            bubble = np.maximum(inner, y[0] - np.float32(centre[1]))
            _mix(plane, coverage(bubble, self.grid.pixel), -990.0)
        within = coverage(distance + 2, self.grid.pixel)
        for name, value in (("bowel_wall", 45.0), ("bowel", -990.0)):
            share = self._share(name, k)
            if share is not None:
                _mix(plane, np.minimum(share, within), value)

    def _lungs(self, plane: np.ndarray, z: float, grain: np.ndarray, k: int) -> np.ndarray:
        distance = self._plane(self.scene.anatomy.lung, z)
        lung = coverage(distance, self.grid.pixel)
        y = self.grid.axes()[1][0]
        mottle = self._plane(self.mottle, z)
        air = -872 + 0.45 * (y - self.scene.anatomy.heart.centre[1]) + 9 * grain + 11 * mottle
        value = self.scene.confounders.in_lung(air, distance, z, self.grid, grain)
        _mix(plane, lung, value)
        for name, inside in (("bronchus_wall", -150.0), ("bronchus", -960.0), ("node", 48.0)):
            share = self._share(name, k)
            if share is not None:
                _mix(plane, share, inside + (8 * grain if name == "node" else 0))
        return lung

    def _vessels(self, plane: np.ndarray, z: float, grain: np.ndarray, k: int) -> None:
        plan, emboli = self.scene.plan, self.scene.emboli
        vein = self.veins[k] * np.float32(1 / 255)
        blood = plan.vein_hu * (1 + 0.03 * grain)
        defect = self._share("defect", k)
        if defect is not None:
            blood = blood + defect * (66 + 6 * grain - blood)
        _mix(plane, vein, blood)
        artery = self.arteries[k] * np.float32(1 / 255)
        if not artery.any():
            return
        inside = plan.artery_hu * (1 + 0.03 * grain)
        bolus = np.clip(self._plane(self.scene.confounders.bolus, z) - 0.06 * grain, 0.2, 1.1)
        inside = np.maximum(inside * bolus, 45.0)
        if self.dim[k].any():
            soft = cv2.GaussianBlur(self.dim[k] / np.float32(255), (0, 0), 1.8 / self.grid.pixel)
            inside = inside * (1 - np.clip(soft * (0.62 + 0.25 * grain), 0, 0.75))
        if emboli.instances[k].any():
            near = cv2.dilate(emboli.instances[k], np.ones((3, 3), np.uint8))
            clot = emboli.fill[k] * np.float32(1 / 255)
            inside = inside + clot * (emboli.hu[near] + 9 * grain - inside)
            calcium = emboli.calcium[k]
            if calcium.any():
                inside = np.where(calcium > 0, calcium, inside)
        _mix(plane, artery, inside)

    def _bones(self, plane: np.ndarray, z: float, grain: np.ndarray, k: int) -> None:
        for name, value in (("cartilage", 95.0), ("bone", 640.0), ("marrow", 175.0)):
            share = self._share(name, k)
            if share is not None:
                _mix(plane, share, value + (45 * grain if name != "cartilage" else 12 * grain))
        patch = spine_patch(
            self.grid, z, self.scene.anatomy.spine, self.scene.plan.scale, self.pitch
        )
        if patch is not None:
            area = plane[patch.window]
            rough = self._plane(self.mottle, z)[patch.window]
            _mix(area, patch.bone, 610.0)
            _mix(area, patch.marrow, 205 + 45 * rough)
            _mix(area, patch.disc, 92 + 4 * rough)
            _mix(area, patch.canal, 28.0)

    def paint(self, k: int) -> np.ndarray:
        """Slice ``k`` before the effects of the scanner: float32 (rows, cols), HU."""
        z = self.grid.z_of(k)
        plane, grain = self._outside(z)
        self._organs(plane, z, grain, k)
        self._lungs(plane, z, grain, k)
        self._bones(plane, z, grain, k)
        self._vessels(plane, z, grain, k)
        return plane

    def truth(self, k: int) -> np.ndarray:
        """Structures of slice ``k``: uint8 (rows, cols), values of :data:`STRUCTURES`."""
        z, heart = self.grid.z_of(k), self.scene.heart
        out = np.zeros(self.grid.shape[1:], dtype=np.uint8)
        fields = (
            ("lung", self.scene.anatomy.lung),
            ("right_ventricle", heart.right_ventricle),
            ("right_atrium", heart.right_atrium),
            ("left_ventricle", heart.left_ventricle),
            ("vein", heart.left_atrium),
        )
        for name, field in fields:
            if field.reaches(0, z):
                out[self._plane(field, z) < 0] = STRUCTURES[name]
        for name, volume in (
            ("aorta", self.parts["aorta"]),
            ("svc", self.parts["svc"]),
            ("airway", self.parts["airway"]),
            ("airway", self.parts["bronchus"]),
            ("bone", self.parts["bone"]),
            ("vein", self.veins),
            ("artery", self.arteries),
        ):
            out[volume[k] >= 128] = STRUCTURES[name]
        return out
