import shutil
from pathlib import Path

import pytest
from mmengine.config import Config
from tiny_run import small_recipe

from pe_unified.engine import ConfigError
from pe_unified.recipes import run_recipe
from pe_unified.recipes.preflight import require_weights
from pe_unified.recipes.recipe import Step


@pytest.mark.parametrize(
    ("change", "overrides", "message"),
    [
        (("cls/auc", "cls/acc"), {}, "no such metric; known: .*cls/accuracy"),
        (("cls/auc", "seg/iou"), {}, "takes step s1_cls, whose test measures no seg"),
        (("pe_cls_r50", "ablations/seg_r50_pe_pretrained"), {}, "no such checkpoint"),
        (("cls/auc", "cls/auc"), {"seed": 7}, "--seeds"),
        (("settings = {", "settings = {'seed': 7, "), {}, "--seeds"),
        (("cls/auc", "cls/auc"), {"test_cfg": None}, "a recipe tests every step; give it test_cfg"),
        (("cls/auc", "cls/auc"), {"val_evaluator": []}, "chooses the threshold of SliceMetric"),
        (("cls/auc", "cls/auc"), {"test_evaluator.0.level": 0.9}, "takes 95% intervals only"),
        (("cls_head=", "seg_head="), {}, "seg_head from step s1_cls, but .* no seg_head"),
    ],
)
def test_what_only_the_end_would_show_is_told_first(
    repository, tiny_dataset, tmp_path, change, overrides, message
):
    broken = tmp_path / "broken.py"
    broken.write_text(small_recipe(repository / "configs").replace(*change))
    with pytest.raises((ConfigError, FileNotFoundError), match=message):
        run_recipe(broken, tmp_path / "run", str(tiny_dataset), overrides)
    assert not (tmp_path / "run").exists()


def test_a_test_split_that_is_missing_costs_no_training(repository, tiny_dataset, tmp_path):
    recipe, data = tmp_path / "recipe.py", tmp_path / "data"
    recipe.write_text(small_recipe(repository / "configs"))
    shutil.copytree(tiny_dataset, data)
    (data / "annotations/test.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no annotations at .*test\.json; convert"):
        run_recipe(recipe, tmp_path / "run", str(data))
    assert not (tmp_path / "run").exists()


def test_a_part_may_have_another_name_in_the_earlier_step():
    step = Step("s2", Path("c.py"), {"encoder.backbone:backbone": "s1"})
    earlier, exam = (Config(dict(model={part: dict(depth=18)})) for part in ("backbone", "encoder"))
    require_weights(step, {"s1": earlier, "s2": exam}, begun=False)
    with pytest.raises(ConfigError, match="has no backbone"):
        require_weights(step, {"s1": exam, "s2": exam}, begun=False)
    with pytest.raises(ConfigError, match="has no encoder"):
        require_weights(step, {"s1": earlier, "s2": earlier}, begun=False)
