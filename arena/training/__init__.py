"""Training of networks by recipe: reproducible, and resumable after a kill."""

from arena.training.card import card, measure, write_weights
from arena.training.checkpoint import Checkpoint
from arena.training.errors import Stopped, TrainingError
from arena.training.given import weights_file, with_weights
from arena.training.hardening import trained_in
from arena.training.hardening_job import HardeningJob, in_form
from arena.training.job import TrainingJob
from arena.training.loop import Trained, TrainingListener, train
from arena.training.recipe import Recipe
from arena.training.recipes import RECIPES, find_recipe

__all__ = [
    "RECIPES",
    "Checkpoint",
    "HardeningJob",
    "Recipe",
    "Stopped",
    "Trained",
    "TrainingError",
    "TrainingJob",
    "TrainingListener",
    "card",
    "find_recipe",
    "in_form",
    "measure",
    "train",
    "trained_in",
    "weights_file",
    "with_weights",
    "write_weights",
]
