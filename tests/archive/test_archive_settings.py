"""The file of settings: the example is whole, and mistakes are named."""

from importlib.resources import files

import pytest
import yaml

from pe_unified.archive.settings import DicomNode, load_settings
from pe_unified.errors import DataError

EXAMPLE = files("pe_unified.archive").joinpath("example.yaml").read_text("utf-8")


def written(tmp_path, **changes):
    found = {**yaml.safe_load(EXAMPLE), **changes}
    path = tmp_path / "pacs.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in found.items() if v is not None}))
    return path


def test_the_example_is_read_as_it_says(tmp_path):
    path = tmp_path / "pacs.yaml"
    path.write_text(EXAMPLE)
    settings = load_settings(path)
    assert settings.folder == tmp_path / "pacs"
    assert settings.model["checkpoint"] == str(tmp_path / "model.pth")
    assert [(rule.name, rule.analyse, rule.priority) for rule in settings.rules] == [
        ("scouts", False, 0),
        ("urgent CTPA", True, 10),
        ("CTPA", True, 0),
    ]
    scout = {"modality": "CT", "description": "Localizer", "images": 2, "slice_thickness": 1.0}
    assert settings.rules[0].fits(scout)
    assert settings.send[0].dicom == DicomNode("localhost", 4242, "ORTHANC")
    assert settings.send[0].objects == ("seg", "sr", "key_images")
    assert settings.receive.allow == ("ORTHANC",) and settings.poll[0].days == 2


def test_defaults_are_those_of_the_example(tmp_path):
    whole = load_settings(written(tmp_path))
    kept = ("folder", "model", "rules", "send", "receive")
    bare = load_settings(
        written(tmp_path, **dict.fromkeys(set(yaml.safe_load(EXAMPLE)) - set(kept)))
    )
    for name in ("complete_after_s", "order", "workers", "crashes", "key_images", "retry", "keep"):
        assert getattr(bare, name) == getattr(whole, name), name
    assert bare.status == whole.status and bare.poll == ()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"recieve": {"port": 1}}, "recieve"),
        ({"receive": {"port": 70000}}, "receive.port"),
        ({"receive": {"port": 1, "allow": ["A TITLE THAT IS TOO LONG"]}}, r"receive.allow\[0\]"),
        ({"receive": None, "poll": None}, "no study would arrive"),
        ({"rules": [{"name": "r", "do": "analyze"}]}, r"rules\[0\].do"),
        ({"rules": [{"name": "r", "do": "ignore", "where": {"age": "3"}}]}, "unknown 'age'"),
        ({"send": [{"name": "a"}]}, r"send\[0\]"),
        ({"send": [{"name": "a", "web": {"url": "ftp://x"}}]}, "send"),
        (
            {"send": [{"name": "a", "web": {"url": "http://x", "token_env": "NO_SUCH_TOKEN"}}]},
            r"no NO_SUCH_TOKEN.*\(export NO_SUCH_TOKEN=",
        ),
        ({"send": [{"name": "a", "web": {"url": "http://x"}}] * 2}, "same name"),
        ({"complete_after_s": 30}, "archive is asked every 30 s"),
    ],
)
def test_mistakes_are_named(tmp_path, changes, said):
    with pytest.raises(DataError, match=said) as caught:
        load_settings(written(tmp_path, **changes))
    assert "pacs --example" in str(caught.value) and "pacs.yaml" in str(caught.value)


def test_no_yaml(tmp_path):
    (tmp_path / "a.yaml").write_text("folder: [")
    with pytest.raises(DataError, match="is not YAML"):
        load_settings(tmp_path / "a.yaml")
    with pytest.raises(DataError, match="cannot be read"):
        load_settings(tmp_path / "b.yaml")
