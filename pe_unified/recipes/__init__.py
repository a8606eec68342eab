"""Many runs: the steps of a recipe, and the comparison of its arms."""

from pe_unified.recipes.recipe import load_recipe
from pe_unified.recipes.steps import run_recipe

__all__ = ["load_recipe", "run_recipe"]
