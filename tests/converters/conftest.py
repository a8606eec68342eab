"""Converted sets, whole and damaged; and a hospital's folder."""

import json
import shutil
from dataclasses import replace

import pytest
from own_folder import write_hospital
from raw_sets import BOX_COLUMNS, write_csv, write_fumpe_patient, write_rsna_study

from pe_unified.converters.own.reader import OwnReader
from pe_unified.converters.pipeline.run import RunOptions, convert
from pe_unified.converters.raw.folder import OwnFolder
from pe_unified.converters.raw.fumpe import Fumpe
from pe_unified.converters.raw.rsna import Rsna
from pe_unified.converters.verify import verify

OPTIONS = RunOptions(quiet=True, folds=2, split=(0.5, 0.25, 0.25))


@pytest.fixture(scope="session")
def converted(tmp_path_factory):
    """Two converted sets, to be copied before they are damaged."""
    root = tmp_path_factory.mktemp("verify")
    for k in range(1, 5):
        write_fumpe_patient(root / "raw", f"PAT{k:03d}", count=12, empty=k == 4)
    convert(Fumpe(root / "raw"), root / "fumpe", OPTIONS)
    rows = [
        row
        for k in range(4)
        for row in write_rsna_study(root / "rsna_raw", f"st{k}", [k % 2, 0, 1 - k % 2])
    ]
    write_csv(root / "rsna_raw" / "train.csv", rows)
    box = [["st1", "st1-s", "st1-0", "", "3", "4", "5", "6"]]
    boxes = write_csv(root / "boxes.csv", box, BOX_COLUMNS)
    convert(Rsna(root / "rsna_raw", boxes=boxes), root / "rsna", OPTIONS)
    return root


@pytest.fixture
def damaged(converted, tmp_path):
    """Copies a set and lets a change be made to one of its files."""

    def damage(change, name="fumpe", part="train"):
        out = tmp_path / name
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(converted / name, out)
        path = out / "annotations" / f"{part}.json"
        content = json.loads(path.read_text())
        result = change(content)
        path.write_text(json.dumps(content))
        if callable(result):
            result(out)
        return verify(out)

    return damage


@pytest.fixture(scope="session")
def hospital(tmp_path_factory):
    """The folder, and the true masks and HU of its studies."""
    raw = tmp_path_factory.mktemp("hospital") / "raw"
    return raw, *write_hospital(raw)


@pytest.fixture
def changed(hospital, tmp_path):
    """A copy of the folder, to be spoilt; and how to convert it."""
    raw = shutil.copytree(hospital[0], tmp_path / "raw")

    def rewrite(old, new):
        text = (raw / "studies.csv").read_text(encoding="cp1252")
        assert old in text
        (raw / "studies.csv").write_text(text.replace(old, new), encoding="cp1252")

    def run(**settings):
        reader = OwnReader(pictures=tmp_path / "out" / "check", **settings)
        converter = OwnFolder(raw, reader=reader)
        return convert(converter, tmp_path / "out", converter.settle(replace(OPTIONS, folds=0)))

    return raw, rewrite, run
