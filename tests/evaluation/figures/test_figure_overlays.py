"""Slices with what is true and what was found."""

import cv2
import numpy as np
import pytest
import torch
from figure_samples import a_view, assert_picture
from mmengine.structures import InstanceData, PixelData

from pe_unified.ct.hu import write_slice_png
from pe_unified.datasets.data_sample import PEDataSample
from pe_unified.evaluation import figures
from pe_unified.evaluation.figures import overlays as figure_overlays


def test_overlay_outlines_truth_and_prediction(tmp_path, texts):
    figures.overlay_figure(a_view(), tmp_path / "one.png", note="Synthetic data")
    assert_picture(tmp_path / "one.png")
    assert {"PAT007, slice 12\nembolism, predicted 0.91", "0.87", "truth"} <= set(texts)
    assert any("level 100 HU, width 700 HU" in text for text in texts)
    picture = cv2.imread(str(tmp_path / "one.png"))[..., ::-1].astype(int)
    for colour in (figure_overlays.TRUTH_COLOUR, figure_overlays.PREDICTED_COLOUR):
        rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert (np.abs(picture - rgb).max(axis=2) < 12).sum() > 300, colour


def test_montage_of_slices_with_much_and_with_nothing_known(tmp_path, texts):
    bare = figures.SliceView(hu=np.zeros((60, 80), np.int16), patient="PAT008")
    without_boxes = a_view(truth_boxes=np.zeros((0, 4)), predicted_boxes=np.zeros((0, 4)))
    missed = a_view(truth_mask=None, truth_boxes=np.zeros((0, 4)), label=False)
    cropped = a_view(region=(20, 10, 60, 50))
    figures.montage_figure([bare, without_boxes, missed, cropped], tmp_path / "many.png", columns=2)
    assert_picture(tmp_path / "many.png")
    assert "PAT008\nlabel unknown" in texts
    with pytest.raises(ValueError, match="no slice"):
        figures.montage_figure([], tmp_path / "none.png")


@pytest.mark.parametrize("focus", [(0.0, 0, 4, 4), (70.0, 50, 80, 60), (0.0, 0, 80, 60)])
def test_enlarged_part_stays_within_the_slice(focus):
    view = a_view(truth_boxes=np.array([focus]))
    x0, y0, x1, y1 = figure_overlays._surroundings(view, (0, 0, 80, 60))
    assert 0 <= x0 < x1 <= 80 and 0 <= y0 < y1 <= 60
    assert x1 - x0 == y1 - y0


def test_view_of_a_predicted_sample(tmp_path):
    hu = np.arange(24 * 24, dtype=np.int16).reshape(24, 24)
    write_slice_png(tmp_path / "0003.png", hu)
    meta = dict(img_path=str(tmp_path / "0003.png"), patient_id="P1", slice_index=3)
    sample = PEDataSample(metainfo=meta | dict(crop_box=(2, 2, 22, 22)))
    sample.set_gt_label(1)
    sample.pred_score = torch.tensor([0.3, 0.7])
    sample.seg_prob = PixelData(data=torch.full((1, 24, 24), 0.6, dtype=torch.bfloat16))
    sample.pred_instances = InstanceData(
        bboxes=torch.tensor([[0.0, 0, 5, 5], [1, 1, 6, 6]]), scores=torch.tensor([0.9, 0.1])
    )
    view = figures.SliceView.of_sample(sample, seg_threshold=0.5, det_threshold=0.4)
    np.testing.assert_array_equal(view.hu, hu)
    assert view.predicted_mask.all() and view.truth_mask is None
    np.testing.assert_array_equal(view.predicted_boxes, [[0, 0, 5, 5]])
    assert view.caption == "P1, slice 3\nembolism, predicted 0.70"
    assert view.region == (2, 2, 22, 22)
    strict = figures.SliceView.of_sample(sample, seg_threshold=0.7)
    assert not strict.predicted_mask.any()
