"""Training of networks by recipe: reproducible, and resumable after a kill."""

from arena.training.card import card, measure, write_weights
from arena.training.checkpoint import Checkpoint
from arena.training.errors import Stopped, TrainingError
from arena.training.job import TrainingJob
from arena.training.loop import Trained, TrainingListener, train
from arena.training.recipe import Recipe
from arena.training.recipes import RECIPES, find_recipe

__all__ = [
    "RECIPES",
    "Checkpoint",
    "Recipe",
    "Stopped",
    "Trained",
    "TrainingError",
    "TrainingJob",
    "TrainingListener",
    "card",
    "find_recipe",
    "measure",
    "train",
    "write_weights",
]
