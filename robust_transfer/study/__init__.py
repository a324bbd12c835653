"""Studies: recipes over a grid of sources, tasks, strategies, shots, seeds and evaluations."""

from robust_transfer.study.reading import load_recipe, packaged
from robust_transfer.study.recipe import Recipe
from robust_transfer.study.study import collect, dry_run, run_study

__all__ = ["Recipe", "collect", "dry_run", "load_recipe", "packaged", "run_study"]
