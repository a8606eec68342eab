"""Where a reader's mask lies in the patient, whichever way the scan lies: read, drawn, exported."""

import json
import shutil
from types import SimpleNamespace

import nibabel
import numpy as np
import pydicom
import pytest
from review_reports import decision
from scipy.spatial.transform import Rotation
from serving import ask, serving

from pe_unified.reports.analysis import analyse_study
from pe_unified.review.export import export_review
from pe_unified.review.store import ReviewStore
from pe_unified.serve.mask_runs import runs_of

TURNS = {
    "as painted": np.eye(3),
    "prone": np.diag([-1.0, -1.0, 1.0]),
    "feet first": np.diag([-1.0, 1.0, -1.0]),
    "oblique": Rotation.from_euler("xyz", [12, -9, 15], degrees=True).as_matrix(),
}


def places_of(header, rows, cols):
    """LPS mm, (n, 3), of pixels of a slice, by the DICOM standard (PS3.3 C.7.6.2.1.1)."""
    along_row, along_col = np.reshape(header.ImageOrientationPatient, (2, 3)).astype(float)
    down, right = map(float, header.PixelSpacing)
    origin = np.array(header.ImagePositionPatient, float)
    return origin + np.outer(cols * right, along_row) + np.outer(rows * down, along_col)


def in_order(points):
    points = np.round(points, 2) + 0.0
    return points[np.lexsort(points.T)]


def places_in_seg(path, label):
    """Of the only segment."""
    stored = pydicom.dcmread(path)
    assert [segment.SegmentLabel for segment in stored.SegmentSequence] == [label]
    shared = stored.SharedFunctionalGroupsSequence[0]
    found = []
    pixels = stored.pixel_array.reshape(-1, stored.Rows, stored.Columns)
    for frame, own in zip(pixels, stored.PerFrameFunctionalGroupsSequence, strict=True):
        header = SimpleNamespace(
            ImagePositionPatient=own.PlanePositionSequence[0].ImagePositionPatient,
            ImageOrientationPatient=shared.PlaneOrientationSequence[0].ImageOrientationPatient,
            PixelSpacing=shared.PixelMeasuresSequence[0].PixelSpacing,
        )
        found.append(places_of(header, *np.nonzero(frame)))
    return in_order(np.concatenate(found))


@pytest.mark.parametrize(
    "turn",
    [
        *("feet first", "oblique"),
        *(pytest.param(turn, marks=pytest.mark.slow) for turn in ("as painted", "prone")),
    ],
)
def test_a_drawn_mask_stays_where_it_was_drawn(turn, finds_nothing, folder, tmp_path):
    study = shutil.copytree(folder, tmp_path / "ct" / "PAT")
    headers = {}
    for path in study.iterdir():
        header = pydicom.dcmread(path)
        for name in ("ImageOrientationPatient", "ImagePositionPatient"):
            turned = np.reshape(header[name].value, (-1, 3)).astype(float) @ TURNS[turn].T
            setattr(header, name, [f"{value:.9g}" for value in turned.ravel()])
        header.PixelSpacing = [0.8, 0.7]
        # Numbers and names of files tell nothing of the place.
        header.InstanceNumber = 1000 - int(header.InstanceNumber)
        header.save_as(path)
        headers[header.SOPInstanceUID] = header
    assert analyse_study(study, tmp_path / "reports" / "PAT", finds_nothing)["lesions"] == []
    store = ReviewStore(tmp_path / "reports")
    ((name, known),) = store.reports().items()
    mask = np.zeros(known.shape, np.uint8)
    mask[4, 10:13, 20:29], mask[5, 11, 22:40], mask[9, 50:60, 5] = 1, 1, 1

    def say(kind, lesion=None, value=()):
        store.add(decision(kind, lesion, value, study=name, model=known.model))

    say("add", None, {"mask": store.save_mask(name, "Ann", mask, dict(enumerate(known.sop_uids)))})
    say("done")
    with serving(tmp_path / "reports", studies=(study.parent,)) as url:
        (row,) = ask(url, "/api/worklist").json["studies"]
        place = f"/api/studies/{row['key']}"
        number = len(store.history())
        shown = ask(url, f"{place}/masks/{number - 1}").json
        assert shown == json.loads(json.dumps(runs_of(mask)))
        pixels = np.frombuffer(ask(url, f"{place}/slices/4/2").body, "<i2").reshape(2, 64, 64)
        spacing = ask(url, f"{place}/images").json["spacing_mm"]
    expected = []
    for index in (4, 5, 9):
        header = headers[known.sop_uids[index]]
        expected.append(places_of(header, *np.nonzero(mask[index])))
        if index < 9:  # the mask lies on the picture that the reader saw
            hu = header.pixel_array * header.RescaleSlope + header.RescaleIntercept
            np.testing.assert_array_equal(pixels[index - 4], np.maximum(hu, -1024))
    expected = in_order(np.concatenate(expected))
    found = export_review(tmp_path / "reports", tmp_path / "out", [study.parent])
    assert found.studies == [name] and not found.left_out and not found.faults
    out = tmp_path / "out" / "studies" / "PAT"
    drawn = places_in_seg(out / "mask.seg.dcm", "Lesion 1")
    np.testing.assert_allclose(drawn, expected, atol=0.03)
    image = nibabel.load(out / "mask.nii.gz")
    there = nibabel.affines.apply_affine(image.affine, np.argwhere(np.asarray(image.dataobj) > 0))
    np.testing.assert_allclose(in_order(there * [-1, -1, 1]), expected, atol=0.03)
    # Millimetres: of the screen's ruler, and of what is told of the lesion.
    tops = np.array([headers[uid].ImagePositionPatient for uid in known.sop_uids[4:6]], float)
    step = float(np.linalg.norm(tops[1] - tops[0]))
    assert spacing == pytest.approx([0.8, 0.7, step], abs=1e-3)
    said = json.loads((out / "corrected.json").read_text())["lesions"][-1]["found"]
    assert said["volume_ml"] == pytest.approx(mask.sum() * 0.8 * 0.7 * step / 1000, rel=0.02)
    widest = max(np.linalg.norm(expected - each, axis=1).max() for each in expected)
    # From corner to corner of voxels, where the places are those of their middles.
    assert widest <= said["largest_diameter_mm"] <= widest + np.linalg.norm([0.8, 0.7, step])
