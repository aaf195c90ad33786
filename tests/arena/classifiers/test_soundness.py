"""Models that cannot be played on are refused in one sentence; what is no logits is read for what it is."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

import arena
from arena.classifiers import Classifier, ClassifierError, FromNumpy
from arena.classifiers.reading import MASKED
from arena.evaluation.clean_images import log_probabilities
from arena.game.blame import DefenderError
from arena.game.stack import Stack
from arena.game.stack_oracle import StackOracle
from arena.running.runner import Run
from arena.scenario.errors import ScenarioError
from arena.scenario.files import parse_scenario

X = torch.rand(12, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def linear(classes: int = 3) -> nn.Sequential:
    layer = nn.Linear(16, classes)
    generator = torch.Generator().manual_seed(1)
    for tensor in layer.parameters():
        tensor.data = torch.randn(tensor.shape, generator=generator)
    return nn.Sequential(nn.Flatten(), layer)


def trained(*layers: nn.Module) -> nn.Module:
    """A network in training mode, as a training loop leaves it."""
    return nn.Sequential(*linear(), *layers).train()


NETWORK = trained(nn.BatchNorm1d(3))
OTHER = trained(nn.Dropout(0.5))
HARMLESS = trained(nn.ReLU(), nn.Dropout(0.0))


class Holder:
    """A callable object that holds its network in a list."""

    def __init__(self, network: nn.Module) -> None:
        self.parts = [network]

    def __call__(self, x: Tensor) -> Tensor:
        answer: Tensor = self.parts[0](x)
        return answer

    def method(self, x: Tensor) -> Tensor:
        return self(x)


class Ensemble(nn.Module):
    """Keeps its members where `eval()` does not reach them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.members = {"one": network}

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.members["one"](x)
        return answer


def by_name(x: Tensor) -> Tensor:
    answer: Tensor = NETWORK(x)
    return answer


def by_another_function(x: Tensor) -> Tensor:
    return sum((f(x) for f in (by_name,)), torch.zeros(()))


def closing_over(network: nn.Module) -> Callable[[Tensor], Tensor]:
    def closed(x: Tensor) -> Tensor:
        answer: Tensor = network(x)
        return answer

    return closed


def with_first(network: nn.Module, x: Tensor) -> Tensor:
    answer: Tensor = network(x)
    return answer


def of(model: Any) -> Classifier:
    return Classifier.of(model, sample=X[:1])


@pytest.mark.parametrize(
    "model",
    [
        by_name,
        by_another_function,
        closing_over(NETWORK),
        closing_over(OTHER),
        partial(with_first, NETWORK),
        Holder(NETWORK),
        Holder(NETWORK).method,
        NETWORK.forward,
        Ensemble(NETWORK),
        Ensemble(OTHER),
    ],
)
def test_a_network_left_in_training_mode_is_found_wherever_it_is_and_not_touched(model: Any) -> None:
    before = copy.deepcopy({**NETWORK.state_dict()})
    with pytest.raises(ValueError, match=r"runs a network \(Sequential\) that is in training mode.*eval\(\)"):
        of(model)
    assert all(torch.equal(before[name], tensor) for name, tensor in NETWORK.state_dict().items())
    assert NETWORK.training


def by_attribute(x: Tensor) -> Tensor:
    """Names an attribute as a network of this module is named."""
    parts = Holder(linear())
    parts.OTHER = parts.parts[0]  # type: ignore[attr-defined]
    answer: Tensor = parts.OTHER(x)  # type: ignore[attr-defined]
    return answer


@pytest.mark.parametrize(
    "model", [closing_over(HARMLESS), closing_over(copy.deepcopy(NETWORK).eval()), by_attribute]
)
def test_networks_that_compute_the_same_in_training_and_those_in_evaluation_mode_are_played(
    model: Any,
) -> None:
    assert of(model).reading is None


def test_a_module_in_training_mode_is_copied_into_evaluation_mode() -> None:
    assert of(NETWORK)(X).shape == (12, 3)
    assert NETWORK.training


class Drops(nn.Module):
    """Dropout that no mode switches off."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate, self.network = rate, linear()

    def forward(self, x: Tensor) -> Tensor:
        return dropout(self.network(x), self.rate, training=True)


class Centred(nn.Module):
    """Subtracts the mean of its batch."""

    def __init__(self) -> None:
        super().__init__()
        self.network = linear()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x)
        return logits - logits.mean(dim=0)


def test_a_random_model_is_refused() -> None:
    for model in (Drops(0.3), closing_over(Drops(0.3))):
        with pytest.raises(ValueError, match="answers the same images differently from call to call"):
            of(model)
    assert of(Drops(0.0)).reading is None


def test_a_model_whose_answers_depend_on_the_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="answers an image differently alone and beside others"):
        of(Centred())


def test_rounding_and_half_precision_are_no_randomness() -> None:
    torch.manual_seed(0)
    network = linear(10)

    def rounded(x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            logits: Tensor = network(x)
        return logits.float() + 1e-6 * torch.rand(len(x), 10)  # as an unordered sum would

    assert of(rounded).classes == 10


def test_a_model_of_one_image_at_a_time_is_not_asked_for_more() -> None:
    network = linear()

    def single(x: Tensor) -> Tensor:
        if len(x) > 1:
            raise RuntimeError("one image at a time")
        answer: Tensor = network(x)
        return answer

    assert of(single).classes == 3


def test_what_wrapping_asks() -> None:
    asked: list[int] = []
    network = linear()

    def counted(x: Tensor) -> Tensor:
        asked.append(len(x))
        answer: Tensor = network(x)
        return answer

    again = of(of(counted))
    assert asked == [1, 3, 3, 1]
    assert again.classes == 3


# Scores that are no logits


def softmax_of(network: nn.Module) -> nn.Module:
    return nn.Sequential(network, nn.Softmax(dim=1))


@pytest.mark.parametrize(
    "kind", [softmax_of, lambda n: FromNumpy(lambda x: softmax_of(n)(torch.tensor(x)).detach().numpy())]
)
def test_probabilities_are_played_as_the_logits_they_stand_for(kind: Any) -> None:
    network = linear()
    classifier, plain = of(kind(network)), of(network)
    assert "probabilities" in classifier.remarks[0]
    assert torch.allclose(classifier(X), plain(X).log_softmax(dim=1), atol=1e-5)
    assert torch.allclose(classifier(X).softmax(dim=1), softmax_of(network)(X), atol=1e-6)
    again = Classifier.of(classifier, sample=X)
    assert torch.equal(again(X), classifier(X))
    assert again.remarks == classifier.remarks


def test_a_network_with_a_softmax_is_calibrated_as_without_and_attacked_alike() -> None:
    network = linear()
    y = network(X).argmax(dim=1)

    def told(model: Any) -> tuple[Any, ...]:
        utility = arena.evaluate(model, images=X, labels=y, cost=False, device="cpu")
        result = arena.play(
            "square",
            classifier=model,
            images=X,
            labels=y,
            threat={"epsilon": 0.2, "budget": 40, "feedback": "probabilities"},
            device="cpu",
        )
        return round(utility.ece, 5), round(utility.nll, 4), *result.queries

    with pytest.warns(UserWarning, match="its answers are probabilities") as caught:
        found = told(softmax_of(network))
    assert {warning.filename for warning in caught} == {__file__}
    assert found == told(network)


def test_probabilities_of_0_keep_logits_and_gradients_finite() -> None:
    class Sure(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x.flatten(1)[:, :3] * 1000).softmax(dim=1)

    classifier = of(Sure())
    assert classifier(X).isfinite().all()
    x = X.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(classifier.differentiable(x)[:, 0].sum(), x)
    assert gradient.isfinite().all()


class Masks(nn.Module):
    """Class 1 is never answered."""

    def __init__(self) -> None:
        super().__init__()
        self.network = linear()

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.arange(3) == 1
        return torch.where(hidden, -torch.inf, self.network(4 * x - 2))


def test_a_masked_class_has_a_finite_logit_and_probability_0() -> None:
    classifier = of(Masks())
    logits = classifier(X)
    assert "minus infinity for classes (1)" in classifier.remarks[0]
    assert (logits[:, 1] == MASKED).all()
    assert torch.equal(logits[:, [0, 2]], classifier.module(X)[:, [0, 2]])
    assert (logits.softmax(dim=1)[:, 1] == 0).all()
    assert log_probabilities(logits)[0, 1] == -math.inf


@pytest.mark.filterwarnings("ignore:.*minus infinity")
@pytest.mark.parametrize("defender", [{"name": "aaa-linear", "kappa": 10}, "snd"])
def test_defenders_prepare_themselves_around_a_masked_class(defender: Any) -> None:
    model = Masks()
    x = torch.rand(80, 1, 4, 4, generator=torch.Generator().manual_seed(2))
    y = model(x).argmax(dim=1)
    found = arena.evaluate(
        model, defender, images=x, labels=y, train=(x, y), calibration=(x, y), cost=False, device="cpu"
    )
    assert found.accuracy > 0.4
    assert found.nll < 10


class SometimesMasked(nn.Module):
    """A class is masked for every image but the darkest."""

    def __init__(self) -> None:
        super().__init__()
        self.network = linear()

    def forward(self, x: Tensor) -> Tensor:
        bright = (x.mean(dim=(1, 2, 3)) > 0.1)[:, None] & (torch.arange(3) == 1)
        return torch.where(bright, -torch.inf, self.network(x))


@pytest.mark.parametrize(("defender", "says"), [("aaa-linear", "AAA tunes"), ("predcoin", "PredCoin learns")])
def test_defenders_without_one_finite_row_say_so(defender: str, says: str) -> None:
    model = SometimesMasked()
    y = model(X).argmax(dim=1)
    classifier = Classifier.of(model, sample=X * 0)
    with pytest.raises(
        DefenderError, match=f"{says}.*finite logits; those of all 12 .* hold infinities or NaN"
    ):
        arena.evaluate(
            classifier, defender, images=X, labels=y, train=(X, y), calibration=(X, y), device="cpu"
        )


# Gradients


def without_gradients(x: Tensor) -> Tensor:
    with torch.no_grad():
        return x.flatten(1)[:, :3] * 3


class Numpy(FromNumpy):
    def __init__(self) -> None:
        super().__init__(lambda x: x.reshape(len(x), -1)[:, :10])


def through_numpy(x: Tensor) -> Tensor:
    return torch.from_numpy(x.numpy()).flatten(1)[:, :3] * 3


@pytest.mark.parametrize(
    "model", [without_gradients, through_numpy, FromNumpy(lambda x: x.reshape(len(x), -1)[:, :3])]
)
def test_a_white_box_without_gradients_is_refused_before_it_plays(model: Any) -> None:
    y = X.flatten(1)[:, :3].argmax(dim=1)
    with pytest.raises(ClassifierError, match=r"gives no gradients.*a white box \(knowledge"):
        arena.play(
            "pgd",
            classifier=model,
            images=X,
            labels=y,
            threat={"epsilon": 0.1, "budget": 5, "knowledge": "weights"},
            device="cpu",
        )


def test_a_scenario_with_such_a_white_box_is_refused_before_it_runs() -> None:
    table = {
        "dataset": "digits",
        "classifier": {"network": f"{__name__}:Numpy"},
        "games": 2,
        "attackers": ["pgd"],
        "defenders": ["none"],
        "threat": {"epsilon": 0.1, "budget": 5, "knowledge": "weights"},
    }
    with pytest.raises(ScenarioError, match=r"pgd: classifier .* gives no gradients"):
        Run(parse_scenario(table, "white", Path.cwd(), "white"), device="cpu")


def test_an_oracle_says_that_it_has_no_gradients() -> None:
    oracle = StackOracle(Stack(of(without_gradients)))
    with pytest.raises(NotImplementedError, match="gives no gradients"):
        oracle.gradient(X, torch.zeros(12, dtype=torch.int64), "margin", targeted=False)
