from __future__ import annotations

import json

import pytest

from arena.classifiers.networks import NETWORKS
from arena.training import RECIPES, Recipe, TrainingError, find_recipe
from arena.training.recipes import DEFAULTS


@pytest.mark.parametrize("name", RECIPES)
def test_named_recipes_survive_json(name: str) -> None:
    recipe = RECIPES[name].recipe
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
    assert recipe.changed({}) == recipe
    assert RECIPES[name].source


def test_every_network_of_the_table_has_a_recipe() -> None:
    assert DEFAULTS.keys() == NETWORKS.keys()
    assert set(DEFAULTS.values()) <= RECIPES.keys()
    assert find_recipe(None, "resnet20")[0] == "cifar-resnet"
    assert find_recipe(None, "my.own:Network")[0] == "quick"
    assert find_recipe("wrn", "resnet20")[1] is RECIPES["wrn"]


def test_papers_settings() -> None:
    """PredCoin's table 12; He et al. 2016, sec. 4.2; Zagoruyko and Komodakis 2016, sec. 3."""
    predcoin, he, wide = (RECIPES[name].recipe for name in ("predcoin", "cifar-resnet", "wrn"))
    assert (predcoin.rate, predcoin.momentum, predcoin.batch, predcoin.epochs) == (0.01, 0.9, 128, 50)
    assert (he.rate, he.momentum, he.weight_decay, he.batch, he.iterations) == (0.1, 0.9, 1e-4, 128, 64_000)
    assert [m * 64_000 for m in he.milestones] == [32_000, 48_000]
    assert [m * 200 for m in wide.milestones] == pytest.approx([60, 120, 160])
    assert (wide.rate, wide.factor, wide.weight_decay, wide.nesterov, wide.epochs) == (
        0.1,
        0.2,
        5e-4,
        True,
        200,
    )


@pytest.mark.parametrize(
    ("images", "batch", "steps"),
    [(800, 50, 16), (801, 50, 16), (802, 50, 17), (30, 50, 1), (1, 50, 1), (3, 1, 3)],
)
def test_a_last_batch_of_one_image_is_left_out(images: int, batch: int, steps: int) -> None:
    recipe = Recipe(rate=0.1, batch=batch, epochs=3)
    assert recipe.steps(images) == (steps, 3 * steps)
    assert recipe.changed({"iterations": 7}).steps(images) == (steps, 7)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rat": 1}, 'recipe: rat: there is no such key; did you mean "rate"?'),
        ({"rate": 0}, "recipe: rate: found 0"),
        ({"rate": "NaN"}, "recipe: rate: found 'NaN'"),
        ({"rate": float("nan")}, "recipe: rate: found nan"),
        ({"batch": 2.5}, "recipe: batch: found 2.5"),
        ({"batch": True}, "recipe: batch: found True"),
        ({"augment": "mixup"}, "recipe: augment: found 'mixup'; input should be 'none', 'shift'"),
        ({"epochs": 2, "iterations": 5}, "recipe: epochs or iterations must be given, and not both"),
        ({"optimiser": "adam"}, "recipe: momentum and nesterov belong to sgd, not to adam"),
        ({"nesterov": True, "momentum": 0}, "recipe: nesterov needs a momentum"),
        ({"schedule": "cosine"}, 'recipe: milestones belong to the schedule "step"'),
        ({"milestones": [0.5, 0.5]}, "recipe: milestones must ascend"),
        ({"milestones": [1.5]}, "recipe: milestones: found 1.5"),
        (
            {"schedule": "one-cycle", "milestones": [], "warmup": 0.1},
            "recipe: one-cycle has a warm-up of its own",
        ),
    ],
)
def test_a_bad_change_gets_a_sentence(changes: dict[str, object], said: str) -> None:
    with pytest.raises(TrainingError) as caught:
        RECIPES["cifar-resnet"].recipe.changed(changes)
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


def test_unknown_recipe() -> None:
    with pytest.raises(TrainingError, match='there is no recipe "digit"; did you mean "digits"'):
        find_recipe("digit", "digits-cnn")


def test_recipes_are_plain_json() -> None:
    assert json.loads(RECIPES["wrn"].recipe.model_dump_json())["milestones"] == [0.3, 0.6, 0.8]
