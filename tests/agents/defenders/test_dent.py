from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from agents.defenders.dent import Dent
from agents.defenders.randomized_features import RandomizedFeatures
from agents.defenders.snd import SND
from arena.classifiers import Classifier
from arena.conformance.defender_checks import check_defender
from arena.datasets import Split
from arena.game.prepared import read, written
from arena.game.stack import prepare
from arena.game.stack_oracle import StackOracle

SHAPE = (2, 6, 6)


class Network(nn.Module):
    def __init__(self, norms: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 4, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(4) if norms else nn.Identity()
        self.conv2 = nn.Conv2d(4, 5, 3)
        self.bn2 = nn.BatchNorm2d(5, affine=False) if norms else nn.Identity()
        self.drop = nn.Dropout()
        self.linear = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu())).relu()
        logits: Tensor = self.linear(self.drop(out.mean((2, 3))))
        return 4 * logits


class Parts:
    train = calibration = Split(torch.rand(4, *SHAPE), torch.arange(4), torch.zeros(4, dtype=torch.int64))


def trained(norms: bool = True) -> Classifier:
    """A network whose BatchNorm has seen data."""
    torch.manual_seed(0)
    network = Network(norms).train()
    for _ in range(20):
        network(torch.rand(32, *SHAPE))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return Classifier(network.eval(), shape=SHAPE, classes=3, name="net")


def images(n: int = 8) -> Tensor:
    return torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(5))


def one_by_one(module: nn.Module, x: Tensor, steps: int, lr: float) -> Tensor:
    """Each row by itself in float64: plain BatchNorm in eval mode and torch's Adam, from the beginning."""
    answers = []
    for row in x.double():
        network: Any = copy.deepcopy(module).double().eval()
        if network.bn2.weight is None:
            network.bn2.weight, network.bn2.bias = nn.Parameter(torch.ones(5)), nn.Parameter(torch.zeros(5))
            network.double()
        for parameter in network.parameters():
            parameter.requires_grad_(False)
        own = [part for norm in (network.bn1, network.bn2) for part in (norm.weight, norm.bias)]
        for part in own:
            part.requires_grad_(True)
        adam = torch.optim.Adam(own, lr=lr)
        for _ in range(steps):
            p = network(row[None]).softmax(1)
            adam.zero_grad()
            (-(p * p.log()).sum()).backward()
            adam.step()
        answers.append(network(row[None]).detach())
    return torch.cat(answers)


def entropy(logits: Tensor) -> Tensor:
    return -(logits.softmax(1) * logits.log_softmax(1)).sum(1)


@pytest.mark.slow
@pytest.mark.conformance
def test_conforms() -> None:
    check_defender(Dent())


@pytest.mark.parametrize(("steps", "lr"), [(6, 1e-3), (3, 0.05)])
def test_each_row_is_adapted_by_itself_as_a_loop_over_rows_does(steps: int, lr: float) -> None:
    base, x = trained(), images()
    found = Dent(steps=steps, lr=lr).harden(base, Parts())(x)
    expected = one_by_one(base.module, x, steps, lr)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=2e-5)
    assert (found - base(x)).abs().amax(1).min() > 1e-4


def test_entropy_falls_with_every_step() -> None:
    base, x = trained(), images(40)
    by_steps = [entropy(Dent(steps=n).harden(base, Parts())(x)) for n in (1, 3, 6)]
    for before, after in zip([entropy(base(x)), *by_steps], by_steps, strict=False):
        assert (after < before).all()


def test_it_forgets_and_no_row_meets_another() -> None:
    base, x = trained(), images()
    hardened = Dent(lr=0.05).harden(base, Parts())
    before = {name: tensor.clone() for name, tensor in hardened.tensors().items()}
    whole = hardened(x)
    assert torch.equal(hardened(x), whole)
    for row in range(len(x)):
        torch.testing.assert_close(hardened(x[row : row + 1])[0], whole[row], rtol=0, atol=1e-5)
    assert all(torch.equal(before[name], tensor) for name, tensor in hardened.tensors().items())


def test_it_runs_as_prepared_within_the_tolerance_of_the_plain_module() -> None:
    base, x = trained(), images()
    hardened = Dent().harden(base, Parts())
    assert "fused" not in hardened.forward.steps
    torch.testing.assert_close(hardened(x), hardened.module(x), rtol=1e-4, atol=1e-4)
    assert hardened.forward.multiply_adds > 10 * base.forward.multiply_adds


def test_gradients_take_the_adaptation_for_a_constant() -> None:
    """The insider's gradient is that of the network with the row's own scales and shifts."""
    base, x = trained(), images(3).requires_grad_(True)
    hardened: Any = Dent(lr=0.05).harden(base, Parts())
    (slope,) = torch.autograd.grad(hardened.differentiable(x).square().sum(), x)
    _, own = hardened.module._adapted(x.detach())
    fixed = torch.func.functional_call(hardened.module.network, own, (x,))
    torch.testing.assert_close(torch.autograd.grad(fixed.square().sum(), x)[0], slope)


def test_logits_that_are_not_finite_pass_unchanged() -> None:
    class Infinite(Network):
        def forward(self, x: Tensor) -> Tensor:
            logits = super().forward(x)
            spoilt = torch.zeros_like(logits)
            spoilt[:, 0] = torch.where(x[:, 0, 0, 0] > 0.5, -torch.inf, 0.0)
            return logits + spoilt

    torch.manual_seed(0)
    base = Classifier(Infinite().eval(), shape=SHAPE, classes=3)
    x = images()
    x[:, 0, 0, 0] = torch.arange(8) % 2
    found, plain = Dent().harden(base, Parts())(x), base(x)
    torch.testing.assert_close(found[1::2], plain[1::2])
    assert (found[::2] != plain[::2]).any(1).all()


def test_it_is_written_and_read_back_and_stands_in_stacks(ask_as) -> None:
    base, x = trained(), images(5)
    defenders = [SND(), RandomizedFeatures(sigma=0.1), Dent()]
    stack = prepare(base, defenders, Parts())
    again = read(written(stack), base, defenders)
    first, second = (StackOracle(s, seed=2, games=5).respond(x, ask_as(range(5))) for s in (stack, again))
    assert torch.equal(first.scores, second.scores)
    other = prepare(base, [Dent(), RandomizedFeatures(sigma=0.1)], Parts())
    rows = ask_as(range(5))
    assert not torch.equal(other.base(x, rows), other.base(x))
    torch.testing.assert_close(other.base(x[1:2], rows[1:2])[0], other.base(x, rows)[1], rtol=0, atol=1e-5)


def test_a_network_without_batch_norm_gets_one_sentence() -> None:
    with pytest.raises(ValueError) as caught:
        Dent().harden(trained(norms=False), Parts())
    assert str(caught.value) == (
        "dent adapts the scales and shifts of BatchNorm; classifier 'net' has no torch.nn.BatchNorm2d that "
        "can be reached"
    )


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"steps": 0}, "steps must be from 1 to 1000; found 0"),
        ({"lr": 0.0}, "lr must be finite and above 0; found 0.0"),
        ({"lr": math.nan}, "lr must be finite and above 0; found nan"),
    ],
)
def test_bad_parameters_get_one_sentence(parameters: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError) as caught:
        Dent(**parameters)
    assert str(caught.value) == said
