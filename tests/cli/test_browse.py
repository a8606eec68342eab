"""The page of pictures: which slices, which geometry, whole files, errors a user can cure."""

import base64
import json
import re
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask
from tiny_exams import write_tiny_exams

from pe_unified.ct.hu import write_slice_png
from pe_unified.engine import ConfigError, load_config
from pe_unified.engine.browse import BOX_RGB, MASK_RGB, build_dataset, choose_slices

CONFIG = """
input_size = {size}
windows = [{windows}]
train_pipeline = [
    dict(type="LoadCTSlice"), dict(type="LoadPELabels"), dict(type="CropToLungs", margin_mm=0),
    dict(type="ResizeSlice", size=input_size), {mixing}
    dict(type="CTWindows", windows=windows), dict(type="PackPEInputs"),
]
test_pipeline = [
    dict(type="LoadCTSlice"), dict(type="CropToLungs", margin_mm=0),
    dict(type="ResizeSlice", size=input_size), dict(type="CTWindows", windows=windows),
    dict(type="LoadPELabels"), dict(type="PackPEInputs"),
]
data_root = "nowhere"
train_dataloader = dict(dataset=dict(type="PESliceDataset", data_root=data_root,
    ann_file="annotations/train.json", neighbours={neighbours}, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(type="PESliceDataset", data_root=data_root,
    ann_file="annotations/train.json", neighbours={neighbours}, pipeline=test_pipeline))
"""


@pytest.fixture
def browse(load_tool):
    return load_tool("browse")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Two patients of four slices, 40 x 40; odd slices hold an embolus, the last knows no mask."""
    root = tmp_path_factory.mktemp("data")
    images, annotations = [], []
    for number in range(8):
        patient, index = f"P{number // 4}", number % 4
        hu = np.full((40, 40), -800, dtype=np.int16)
        hu[10:30, 10:30] = 40
        file = f"images/{patient}/{index:04d}.png"
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        positive, masks_known = index % 2 == 1, number != 7
        if positive:
            hu[15:20, 20:26] = 100
            mask = np.zeros((40, 40), dtype=np.uint8, order="F")
            mask[15:20, 20:26] = 1
            rle = coco_mask.encode(mask)
            annotation = dict(id=number + 1, image_id=number, category_id=1, iscrowd=0, area=30)
            annotation["bbox"] = [20, 15, 6, 5]
            annotation["segmentation"] = {"size": rle["size"], "counts": rle["counts"].decode()}
            if masks_known:
                annotations.append(annotation)
        write_slice_png(root / file, hu)
        images.append(
            dict(
                id=number,
                file_name=file,
                width=40,
                height=40,
                patient_id=patient,
                study_uid=patient,
                series_uid=patient,
                sop_uid=str(number),
                slice_index=index,
                z_mm=float(index),
                spacing_mm=[1.0, 1.0, 1.0] if number < 4 else [None] * 3,
                pe_present=int(positive),
                labels_known=["slice", "boxes", "masks"] if masks_known else ["slice"],
                lung_box=[10, 10, 20, 20],
            )
        )
    coco = dict(images=images, annotations=annotations, info={"hu_offset": 1024})
    (root / "annotations").mkdir()
    (root / "annotations" / "train.json").write_text(json.dumps(coco))
    return root


def run(browse, monkeypatch, tmp_path, data, *options, **settings):
    config = tmp_path / "tiny.py"
    usual = dict(size=40, windows="'pe'", neighbours=0, mixing="")
    config.write_text(CONFIG.format(**{**usual, **settings}))
    out = tmp_path / "out"
    command = ["browse.py", str(config), "--out", str(out), "--data-root", str(data), *options]
    monkeypatch.setattr(sys, "argv", command)
    browse.main()
    return out


def colour_pixels(picture: np.ndarray, rgb: tuple[int, int, int]) -> np.ndarray:
    return (picture[..., ::-1] == rgb).all(axis=2)


def test_page_stands_alone_and_names_what_it_shows(browse, monkeypatch, tmp_path, data):
    windows = "'lung', 'pe', (50, 300)"
    out = run(browse, monkeypatch, tmp_path, data, "--number", "8", windows=windows)
    page = (out / "index.html").read_text()
    assert page.count("<article>") == 8
    sources = re.findall(r'<img src="([^"]+)"', page)
    assert len(sources) == 8 * 3 * 2 and all(one.startswith("data:image/") for one in sources)
    jpeg = base64.b64decode(sources[0].split(",")[1])
    assert cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_UNCHANGED).shape == (390, 390)
    for text in (
        "images/P1/0003.png",
        "lung -600 / 1500 HU",
        "pe 100 / 700 HU",
        "window 50 / 300 HU",
        "8 slices of 2 patients, 4 with embolism",
        '<dd class="pe">embolism',
        "not a medical device",
        "120 pixels",
    ):
        assert text in page, text
    assert "http" not in page.replace("http-equiv", "")
    assert sorted(path.name for path in (out / "slices").iterdir()) == [
        f"P{patient}_{index:04d}.png" for patient in (0, 1) for index in range(4)
    ]
    assert [path.name for path in out.iterdir() if path.suffix == ".part"] == []


def test_unknown_masks_are_called_unknown_not_empty(browse, monkeypatch, tmp_path, data):
    out = run(browse, monkeypatch, tmp_path, data, "--number", "8")
    article = (out / "index.html").read_text().split("<article>")[-1]
    assert "images/P1/0003.png" in article
    assert "<dt>mask</dt><dd>unknown" in article and "<dt>boxes</dt><dd>unknown" in article


@pytest.mark.parametrize("split", ["train", "val"])
def test_outlines_lie_on_the_embolus_whichever_way_labels_travel(
    browse, monkeypatch, tmp_path, data, split
):
    # The lungs' crop is 20 x 20 at (10, 10), enlarged to 60: three times.
    out = run(browse, monkeypatch, tmp_path, data, "--split", split, "--number", "8", size=60)
    picture = cv2.imread(str(out / "slices" / "P0_0001.png"))
    side = picture.shape[1]
    assert picture.shape[0] == 2 * side
    assert not colour_pixels(picture[:side], BOX_RGB).any(), "the upper row is plain"
    scale = side / 20
    rows, cols = np.nonzero(colour_pixels(picture[side:], MASK_RGB))
    found = [cols.min() / scale, rows.min() / scale, cols.max() / scale, rows.max() / scale]
    np.testing.assert_allclose(found, [10, 5, 16, 10], atol=0.2)
    rows, cols = np.nonzero(colour_pixels(picture[side:], BOX_RGB))
    found = [cols.min() / scale, rows.min() / scale, cols.max() / scale, rows.max() / scale]
    np.testing.assert_allclose(found, [10, 5, 16, 10], atol=0.2)


def test_neighbours_are_named(browse, monkeypatch, tmp_path, data):
    out = run(browse, monkeypatch, tmp_path, data, "--number", "2", neighbours=1)
    page = (out / "index.html").read_text()
    assert all(f"slice {offset}, pe 100 / 700 HU" in page for offset in ("-1", "+0", "+1"))


@pytest.mark.parametrize("probability", [1, 0])
def test_slices_that_others_gave_to_are_shown_before_and_after(
    browse, monkeypatch, tmp_path, data, probability
):
    """Of eight slices three have masks of emboli; each is a crop with an embolus of 30 pixels."""
    joining = f"dict(type='JoinSlices', probability={probability}, below=1.0),"
    out = run(browse, monkeypatch, tmp_path, data, "--number", "8", mixing=joining)
    page = (out / "index.html").read_text()
    changed = 3 * probability
    assert page.count("<article>") == 8 + changed
    for when in ("before", "after"):
        assert page.count(f"<dt>shown</dt><dd>{when} JoinSlices</dd>") == changed
    assert ("3 changed by JoinSlices, shown before and after" in page) is bool(probability)
    wide = []
    for path in sorted((out / "slices").iterdir()):
        rows, cols = cv2.imread(str(path)).shape[:2]
        wide += [path.stem] if cols == rows else []
        assert cols in (rows, rows // 2)
    assert wide == (["P0_0001", "P0_0003", "P1_0001"] if probability else [])
    if probability:
        picture = cv2.imread(str(out / "slices/P0_0001.png"))
        rows, cols = picture.shape[:2]
        before, after = picture[rows // 2 :, : cols // 2], picture[rows // 2 :, cols // 2 :]
        outlined = [colour_pixels(each, MASK_RGB).sum() for each in (before, after)]
        assert outlined[1] > 1.5 * outlined[0] > 0


def test_choice_is_balanced_seeded_and_complete():
    labels = np.array([1.0] * 10 + [0.0] * 90 + [np.nan] * 5)
    chosen = choose_slices(labels, 12, seed=1)
    assert len(set(chosen)) == 12 and chosen == sorted(chosen)
    assert sum(labels[chosen] == 1) == 6
    assert chosen == choose_slices(labels, 12, seed=1)
    assert chosen != choose_slices(labels, 12, seed=2)
    assert len(choose_slices(labels, 40, seed=0)) == 40
    assert len(choose_slices(np.ones(5), 4, seed=0)) == 4
    assert choose_slices(labels, 1000, seed=0) == list(range(105))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--split", "test"], "no test_dataloader"),
        (["--cfg-options", "input_sise=64"], "did you mean input_size"),
        (["--data-root", "elsewhere"], "convert a data set first"),
    ],
)
def test_what_a_user_can_cure_is_one_line(browse, monkeypatch, tmp_path, data, options, message):
    with pytest.raises(SystemExit, match=message):
        run(browse, monkeypatch, tmp_path, data, *options)
    assert not (tmp_path / "out" / "index.html").exists()


def test_exams_are_refused(tmp_path):
    cfg = load_config("exam/semi_weak", data_root=str(write_tiny_exams(tmp_path / "set", size=16)))
    with pytest.raises(ConfigError, match=r"semi_weak\.py: .* has a PEExamDataset; only configs"):
        build_dataset(cfg, "train")
