"""The kinds of runs that there are."""

from collections.abc import Mapping
from typing import Any

from rl.launch.recipe import Recipe
from rl.launch.sft_recipe import SFT
from rl.launch.train_recipe import TRAIN
from rl.run.kind import Kind

RECIPES: Mapping[Kind, Recipe[Any, Any]] = {recipe.kind: recipe for recipe in (TRAIN, SFT)}
