"""Pictures of what a pipeline gives the network, on one self-contained page."""

import base64
import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from mmengine.config import Config
from mmengine.registry import init_default_scope

from pe_unified.ct.windows import resolve_window
from pe_unified.datasets import Draw, PESliceDataset
from pe_unified.datasets.slice_dataset import FINDINGS
from pe_unified.disclaimer import RESEARCH_LINE
from pe_unified.engine.config import ConfigError
from pe_unified.engine.knobs import kind_of
from pe_unified.files import write_bytes, write_text
from pe_unified.paths import require_apart
from pe_unified.progress import track
from pe_unified.registry import DATASETS, SCOPE
from pe_unified.templates import render

#: RGB of mask outlines and boxes: distinct from grey, and from each other for the colour-blind.
MASK_RGB, BOX_RGB = (86, 180, 233), (245, 160, 0)
#: Longest side of a picture in the page, pixels.
THUMBNAIL = 390
#: Transforms that move the image; labels loaded after them keep the stored slice's geometry.
_GEOMETRY = ("CropToLungs", "ResizeSlice", "RandomSliceGeometry")
#: Transforms that mix in other slices; a slice is shown before and after.
_MIXING = ("PasteEmboli", "JoinSlices")


@dataclass(frozen=True)
class Item:
    """One output of the pipeline, with labels in the geometry of the picture.

    Fields:
        picture: uint8 (channels, rows, cols).
        mask: uint8 (rows, cols), or None where unknown.
        boxes: (n, 4), x1 y1 x2 y2 in pixels, or None where unknown.
        caption: text by name, in the order of the page.
        name: file name of its PNG.
    """

    picture: np.ndarray
    mask: np.ndarray | None
    boxes: np.ndarray | None
    caption: dict[str, str]
    name: str


def build_dataset(cfg: Config, split: str) -> PESliceDataset:
    loader = cfg.get(f"{split}_dataloader")
    if loader is None:
        raise ConfigError(f"the config has no {split}_dataloader")
    init_default_scope(SCOPE)
    dataset = DATASETS.build(loader.dataset)
    if not isinstance(dataset, PESliceDataset):
        raise ConfigError(
            f"{cfg.filename}: {split}_dataloader has a {type(dataset).__name__}; only configs of "
            "slices, with a PESliceDataset, can be browsed"
        )
    return dataset


def without_mixing(cfg: Config, split: str) -> tuple[list[str], PESliceDataset | None]:
    """The transforms of a split that mix in other slices, and its data set without them.

    They draw their own random numbers, so that everything else stays the same.
    """
    cfg = copy.deepcopy(cfg)
    dataset = cfg[f"{split}_dataloader"].dataset
    mixing = [
        step for step in dataset.pipeline if kind_of(step) in _MIXING and step.get("probability", 1)
    ]
    if not mixing:
        return [], None
    dataset.pipeline = [step for step in dataset.pipeline if step not in mixing]
    return [kind_of(step) for step in mixing], build_dataset(cfg, split)


def _called(item: Item, name: str) -> Item:
    return replace(item, caption={"shown": name, **item.caption})


def choose_slices(labels: np.ndarray, number: int, seed: int) -> list[int]:
    """Indices to show, in order: half of them with embolism, if there are enough of both kinds."""
    generator = np.random.default_rng(seed)
    positive = generator.permutation(np.flatnonzero(labels == 1))
    others = generator.permutation(np.flatnonzero(labels != 1))
    wanted = max((number + 1) // 2, number - len(others))
    chosen = np.concatenate([positive[:wanted], others[: number - min(wanted, len(positive))]])
    return sorted(int(index) for index in chosen)


def channel_names(pipeline: Sequence[dict], neighbours: int) -> list[str]:
    """What every input channel shows: the window and, with 2.5D input, the slice."""
    (step,) = [step for step in pipeline if kind_of(step) == "CTWindows"] or [{}]
    names = []
    for window in step.get("windows", ("lung", "pe", "mediastinal")):
        seen = resolve_window(window)
        name = window if isinstance(window, str) else "window"
        names.append(f"{name} {seen.level:g} / {seen.width:g} HU")
    offsets = range(-neighbours, neighbours + 1)
    if not neighbours:
        return names
    return [f"slice {offset:+d}, {name}" for offset in offsets for name in names]


def labels_follow(pipeline: Sequence[dict]) -> bool:
    """Whether labels are loaded before the image is moved, so that they are moved with it."""
    kinds = [kind_of(step) for step in pipeline]
    moves = [kinds.index(kind) for kind in _GEOMETRY if kind in kinds]
    if not moves:
        return True
    return "LoadPELabels" in kinds and kinds.index("LoadPELabels") < min(moves)


def read_item(output: dict, follow: bool, finding: str) -> Item:
    """Bring one output of the pipeline into the geometry of its picture.

    ``finding``: name of the finding that the slice is labelled for.
    """
    sample = output["data_samples"]
    picture = output["inputs"].numpy()
    rows, cols = picture.shape[1:]
    x0, y0, x1, y1 = sample.crop_box
    mask = boxes = None
    if "gt_sem_seg" in sample:
        mask = sample.gt_sem_seg.data[0].numpy().astype(np.uint8)
        if not follow:
            seen = np.ascontiguousarray(mask[y0:y1, x0:x1])
            mask = cv2.resize(seen, (cols, rows), interpolation=cv2.INTER_NEAREST_EXACT)
    if "gt_instances" in sample:
        boxes = sample.gt_instances.bboxes.numpy().astype(np.float64)
        if not follow:
            boxes = (boxes - [x0, y0, x0, y0]) * np.tile(sample.scale_factor, 2)
    path = Path(sample.img_path)
    known = int(sample.gt_label) if "gt_label" in sample else None
    spacing = sample.get("spacing_mm") or (None, None)
    placed = None not in spacing[:2]
    caption = {
        "patient": str(sample.patient_id),
        "file": "/".join(path.parts[-3:]),
        "label": {None: "unknown", 0: f"no {finding}", 1: finding}[known],
        "mask": "unknown" if mask is None else f"{int(mask.sum())} pixels",
        "boxes": "unknown" if boxes is None else str(len(boxes)),
        "crop": f"x {x0} to {x1}, y {y0} to {y1} of {sample.ori_shape[1]} x {sample.ori_shape[0]}",
        "spacing": " x ".join(f"{mm:.2f}" for mm in spacing[:2]) + " mm" if placed else "unknown",
    }
    return Item(picture, mask, boxes, caption, f"{path.parent.name}_{path.stem}.png")


def draw_labels(item: Item, scale: float) -> np.ndarray:
    """Outlines on a transparent background: uint8 RGBA, the picture's size times ``scale``."""
    rows, cols = (max(1, round(side * scale)) for side in item.picture.shape[1:])
    layer = np.zeros((rows, cols, 4), dtype=np.uint8)
    if item.mask is not None:
        mask = cv2.resize(item.mask, (cols, rows), interpolation=cv2.INTER_NEAREST_EXACT)
        edge = cv2.dilate(mask, np.ones((3, 3), np.uint8)) - mask
        layer[edge > 0] = (*MASK_RGB, 255)
    for x1, y1, x2, y2 in np.zeros((0, 4)) if item.boxes is None else item.boxes * scale:
        # One pixel outside the box, so that the line hides no embolus.
        low, high = (round(x1) - 2, round(y1) - 2), (round(x2) + 1, round(y2) + 1)
        cv2.rectangle(layer, low, high, (*BOX_RGB, 255), 1)
    return layer


def full_picture(item: Item, before: Item | None = None) -> np.ndarray:
    """Channels side by side, RGB: above without labels, below with labels.

    The channels of ``before``, the slice without mixed-in slices, are on the left. Small inputs
    are enlarged by an integer factor, so that outlines are thinner than pixels.
    """
    factor = max(1, round(512 / max(item.picture.shape[1:])))
    layer = draw_labels(item, factor)
    sharp = item.picture.repeat(factor, axis=1).repeat(factor, axis=2)
    plain = [cv2.cvtColor(channel, cv2.COLOR_GRAY2RGB) for channel in sharp]
    drawn = [np.where(layer[..., 3:] > 0, layer[..., :3], channel) for channel in plain]
    picture = np.vstack([np.hstack(plain), np.hstack(drawn)])
    return picture if before is None else np.hstack([full_picture(before), picture])


def embed(picture: np.ndarray, kind: str) -> str:
    """A picture (grey, or RGBA) as the source of an HTML image."""
    if picture.ndim == 3:
        picture = cv2.cvtColor(picture, cv2.COLOR_RGBA2BGRA)
    _, data = cv2.imencode(f".{kind}", picture)
    return f"data:image/{kind};base64,{base64.b64encode(data.tobytes()).decode()}"


def draw_article(item: Item, channels: Sequence[str]) -> dict[str, object]:
    """Values for the page's template: an item's channels, in the size of the page, and labels."""
    scale = THUMBNAIL / max(item.picture.shape[1:])
    layer = draw_labels(item, scale)
    size = (layer.shape[1], layer.shape[0])
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return {
        "caption": item.caption,
        "name": item.name,
        "size": size,
        "pictures": [
            (name, embed(cv2.resize(channel, size, interpolation=how), "jpeg"))
            for channel, name in zip(item.picture, channels, strict=True)
        ],
        "labels": embed(layer, "png"),
    }


def browse(cfg: Config, title: str, out: Path, split: str, number: int, seed: int) -> Path:
    """Write the page and the pictures of one split; returns the page's path."""
    dataset = build_dataset(cfg, split)
    settings = cfg[f"{split}_dataloader"].dataset
    require_apart(out, Path(settings.data_root))
    channels = channel_names(settings.pipeline, settings.get("neighbours", 0))
    follow = labels_follow(settings.pipeline)
    labels, finding = dataset.labels(), FINDINGS[settings.get("label", "pe")]
    (out / "slices").mkdir(parents=True, exist_ok=True)
    mixing, plain = without_mixing(cfg, split)
    articles, changed = [], 0
    indices = choose_slices(labels, number, seed)
    for index in track(indices, "drawing slices"):
        draw = Draw(index, seed)
        item = read_item(dataset[draw], follow, finding)
        before = read_item(plain[draw], follow, finding) if plain else None
        if before is None or np.array_equal(before.picture, item.picture):
            before = None
        else:
            changed += 1
            steps = " and ".join(mixing)
            articles.append(draw_article(_called(before, f"before {steps}"), channels))
            item = _called(item, f"after {steps}")
        picture = cv2.cvtColor(full_picture(item, before), cv2.COLOR_RGB2BGR)
        write_bytes(out / "slices" / item.name, cv2.imencode(".png", picture)[1].tobytes())
        articles.append(draw_article(item, channels))
    facts = [
        f"{settings.data_root}, {settings.ann_file}: {len(dataset)} slices of "
        f"{len(set(dataset.patients()))} patients, {int(np.sum(labels == 1))} with {finding}",
        f"{len(indices)} shown, half with and half without {finding} if there are enough; "
        f"seed {seed}",
        "pipeline: " + ", ".join(step["type"] for step in settings.pipeline),
    ]
    if mixing:
        facts.append(f"{changed} changed by {' and '.join(mixing)}, shown before and after")
    page = out / "index.html"
    text = render(
        "engine/browse.html",
        title=f"{title}: {split} slices",
        facts=facts,
        colours={"mask outline": MASK_RGB, "box": BOX_RGB},
        articles=articles,
        notice=RESEARCH_LINE,
    )
    write_text(page, text)
    return page
