"""The page on one's own data: its commands, one after the other, on a small folder."""

import re
import shlex

import pytest
from own_folder import save_nifti, save_rtstruct, save_seg, save_slicer, write_study, zipped

from pe_unified.cli import main
from pe_unified.converters.verify import verify

#: Small enough to train in a second or two.
SMALL = [
    *("pretrained=None", "input_size=32", "batch_size=2", "num_workers=0", "precision=fp32"),
    *("model.backbone.depth=18", "model.backbone.base_channels=8"),
    *("model.seg_head.decoder.channels=(16,16,8,8)", "model.seg_head.decoder.skip_channels=8"),
    *(
        "model.det_head.neck.out_channels=16",
        "model.det_head.roi_head.bbox_head.fc_out_channels=16",
    ),
    "model.det_head.test_cfg.rpn.max_per_img=10",
]


@pytest.fixture
def export(tmp_path):
    """Six studies, four masks, each of another kind; nothing is said of the fifth and the last."""
    raw, lines = tmp_path / "export", ["\ufeffStudyInstanceUID;Patient;PE"]
    for number in range(6):
        folder = raw / f"{2020 + number % 2}" / f"case{number + 2}"
        study, mask = write_study(folder, f"case{number + 2}", count=12)
        kinds = {
            0: lambda: save_nifti(raw / "masks" / "case2.nii.gz", mask, study),  # noqa: B023
            1: lambda: save_seg(folder / "seg.dcm", {"PE": mask}, study.files),  # noqa: B023
            2: lambda: save_slicer(folder / "Segmentation.seg.nrrd", {"1": mask}, study),  # noqa: B023
            3: lambda: save_rtstruct(raw / "rs" / "x.dcm", {"Clot": mask}, study),  # noqa: B023
        }
        kinds.get(number, lambda: None)()
        lines.append(f"{study.study_uid};M{number};{'ja' if number < 4 else ''}")
    zipped(raw / "2021" / "case7", raw / "2021" / "packed.zip")
    for path in (raw / "2021" / "case7").iterdir():
        path.unlink()
    (raw / "studies.csv").write_text("\r\n".join(lines), encoding="utf-8")
    return raw


@pytest.mark.parametrize("count", [2, pytest.param(6, marks=pytest.mark.slow)])
def test_the_commands_of_the_page(repository, export, tmp_path, called, monkeypatch, count):
    page = (repository / "docs/own_data.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```bash\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    lines = [shlex.split(line) for block in blocks for line in block.splitlines()]
    assert [line[1] for line in lines] == [*("convert",) * 2, "train", "test", "publish", "infer"]
    monkeypatch.chdir(tmp_path)
    for line in lines[:count]:
        words = [
            word.replace("/data/export/case7", f"{export}/2020/case6")
            .replace("/data/export", str(export))
            .replace("iter_20000", "iter_2")
            for word in line
        ]
        if line[1] == "convert":
            words += ["--workers", "1"]
        elif line[1] != "infer":
            longer = ["max_iters=2"] if line[1] == "train" else []
            words += ["--cfg-options", *SMALL, *longer]
        done = called(main, *words)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr[-3000:]}"
        if "--check" in line:
            assert "6 studies of 6 patients; 4 with masks, 2 of unknown embolism" in done.stdout
    assert verify(tmp_path / "data/own") == []
    assert (tmp_path / "reports/case7/report.html").is_file() == (count == 6)
