from pathlib import Path

import pytest
from mmengine.config import Config

from pe_unified.recipes.budget import budget_of, seed_of_draws, stretched, with_totals
from pe_unified.recipes.recipe import Step


def config(iterations, batch_size, **more):
    loader = dict(batch_size=batch_size)
    return Config(dict(max_iters=iterations, train_dataloader=loader, **more))


@pytest.fixture
def budgets():
    """a <- b <- d, a <- c <- d: d starts from both, and a counts once."""
    found = {}
    for name, iterations, batch_size, reuse in (
        ("a", 10, 4, {}),
        ("b", 20, 4, dict(backbone="a")),
        ("c", 30, 2, dict(backbone="a")),
        ("d", 5, 4, dict(backbone="b", cls_head="c")),
    ):
        step = Step(name, Path("c.py"), reuse)
        found[name] = budget_of(step, config(iterations, batch_size), found)
    return found


def test_every_ancestor_counts_once_by_its_slices(budgets):
    assert budgets["b"].slices == 120
    assert budgets["d"].chain == {"a": 40, "b": 80, "c": 60, "d": 20}
    assert budgets["d"].slices == 200


def test_totals_count_what_was_trained_with():
    """Weights from elsewhere have no known past; a step that was stopped early counts as it ran."""

    def both(step):
        return [{"from": step, "module": module} for module in ("backbone", "cls_head")]

    told = with_totals(
        [
            {"name": "a", "iterations": 7, "batch_size": 4, "reused": []},
            {"name": "b", "iterations": 20, "batch_size": 2, "reused": both("a")},
            {"name": "c", "iterations": 5, "batch_size": 4, "reused": both("elsewhere")},
        ]
    )
    assert [each["total_slices"] for each in told] == [28, 68, 20]
    assert [each["total_iterations"] for each in told] == [7, 34, 5]


def test_a_control_sees_as_many_slices_and_warms_up_as_long_in_proportion(budgets):
    longer = stretched(config(20, 4, warmup_iters=4), budgets["d"])
    assert longer == {"max_iters": 50, "warmup_iters": 10}
    assert stretched(config(20, 3), budgets["d"]) == {"max_iters": 67}


def test_draws_differ_by_step_and_seed_alone():
    assert seed_of_draws(0, "s1_cls") == seed_of_draws(0, "s1_cls")
    seeds = {seed_of_draws(seed, name) for seed in (0, 1) for name in ("s1_cls", "s4_cls_reused")}
    assert len(seeds) == 4 and all(0 <= seed < 2**32 for seed in seeds)
