"""Reading recipes: what they may say, and what is refused."""

import pytest

from pe_unified.engine import ConfigError
from pe_unified.recipes import load_recipe


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (
            [dict(name="a", config="c.py", reuse=dict(backbone="b"))],
            "a names b; the steps before are: none",
        ),
        ([dict(name="a", config="c.py"), dict(name="a", config="c.py")], "two steps"),
        ([dict(name="a", config="c.py", start_from="b")], "unexpected .* 'start_from'"),
        ([dict(config="c.py")], "missing .* 'name'"),
        ([dict(name="a", config="c.py"), dict(name="b", like="c")], "b names c; .* are: a"),
        ([dict(name="a", config="c.py", as_long_as="b")], "a names b; the steps before"),
        (["a"], "step 'a': write it as dict"),
        ([dict(name="a")], "step a: give it either config or like"),
        (
            [dict(name="a", config="c.py"), dict(name="b", config="c.py", like="a")],
            "step b: give it either config or like",
        ),
        ([], "lists no steps"),
    ],
)
def test_recipes_that_cannot_work_are_refused(tmp_path, steps, message):
    (tmp_path / "c.py").write_text("")
    (tmp_path / "r.py").write_text(f"steps = {steps!r}")
    with pytest.raises(ConfigError, match=message):
        load_recipe(tmp_path / "r.py")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("setings = dict(lr=1.0)", "did you mean 'settings'"),
        ("step_setings = dict(a=dict(lr=1.0))", "did you mean 'step_settings'"),
        ("comparisons = [('cls/auc', 'a')]", "missing .* 'reused'"),
        ("comparisons = [('cls/auc', 'a', 'b')]", "the comparison of cls/auc names b; .* are: a"),
    ],
)
def test_what_a_recipe_says_in_vain_is_refused(tmp_path, text, message):
    (tmp_path / "c.py").write_text("")
    (tmp_path / "r.py").write_text(f"steps = [dict(name='a', config='c.py')]\n{text}\n")
    with pytest.raises(ConfigError, match=message):
        load_recipe(tmp_path / "r.py")


def test_a_recipe_of_ones_own_inherits_from_anywhere(repository, tmp_path):
    own = tmp_path / "own.py"
    base = repository / "configs/results/swin.py"
    own.write_text(f"_base_ = {str(base)!r}\nsettings = dict(lr=1e-4)\n")
    steps = load_recipe(own).steps
    assert [step.config for step in steps] == [step.config for step in load_recipe(base).steps]
    assert steps[0].config == repository / "configs/pe_cls_swin.py"
    assert all(step.settings[0]["lr"] == 1e-4 for step in steps)


def test_recipes_inherit_the_table_of_steps(repository):
    r50 = load_recipe(repository / "configs/steps/r50.py")
    swin = load_recipe(repository / "configs/steps/swin.py")
    for one, other in zip(r50.steps, swin.steps, strict=True):
        assert one.config.name.replace("_r50", "_swin") == other.config.name
        assert (one.name, one.reuse) == (other.name, other.reuse)


def test_step_settings_come_last_and_name_steps_that_are_there(tmp_path):
    (tmp_path / "c.py").write_text("lr = 1.0")
    text = "steps = [dict(name='a', config='c.py')]\nsettings = dict(lr=2.0)\n"
    (tmp_path / "r.py").write_text(text + "step_settings = dict(a=dict(lr=3.0))")
    (step,) = load_recipe(tmp_path / "r.py").steps
    assert [dict(each) for each in step.settings] == [{"lr": 2.0}, {}, {"lr": 3.0}]
    like = "steps.append(dict(name='b', like='a', as_long_as='a'))\n"
    (tmp_path / "r.py").write_text(text + like + "step_settings = dict(a=dict(lr=3.0))")
    _, control = load_recipe(tmp_path / "r.py").steps
    assert dict(control.settings[2]) == {"lr": 3.0} and control.as_long_as == "a"
    (tmp_path / "r.py").write_text(text + "step_settings = dict(b=dict(lr=3.0))")
    with pytest.raises(ConfigError, match="step_settings names b; the steps before are: a"):
        load_recipe(tmp_path / "r.py")


def test_config_given_as_recipe(repository):
    with pytest.raises(ConfigError, match="no steps"):
        load_recipe(repository / "configs/pe_cls_r50.py")


def test_step_without_a_config_is_named(tmp_path):
    (tmp_path / "r.py").write_text("steps = [dict(name='a', config='gone.py')]")
    with pytest.raises(FileNotFoundError, match=r"gone\.py"):
        load_recipe(tmp_path / "r.py")
