from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from torch import Tensor, nn

from agents.defenders.predcoin.conv_parity import ConvParity, Parity
from agents.defenders.predcoin.exact_sums import exact_sum, levels
from agents.defenders.predcoin.first_convolution import first_convolution_sum
from arena.classifiers import Classifier
from arena.classifiers.networks import Normalised
from arena.conformance.defender_checks import check_defender

SHAPE = (3, 9, 8)


class Network(nn.Module):
    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        draws = torch.Generator().manual_seed(0)
        self.convolution = nn.Conv2d(3, 5, 3, padding=1, stride=2)
        self.linear = nn.Linear(5 * 5 * 4, 4)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=draws) * 0.3 * scale

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.convolution(x).relu().flatten(1))
        return logits


def classifier(module: nn.Module) -> Classifier:
    return Classifier(module, shape=SHAPE, classes=4)


class Before(nn.Module):
    """The network behind something else, by its name."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.network = how, Network()
        if how == "nan":
            self.network.convolution.weight.data[0, 0, 0, 0] = math.nan

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "in place":
            x -= 0.5
        logits: Tensor = self.network({"cast": x.float(), "cut off": x.detach()}.get(self.how, x))
        return logits

    def __deepcopy__(self, memo: object) -> Before:
        if self.how == "single":
            raise TypeError("there is but one")
        return Before(self.how)


@pytest.fixture(scope="module")
def network() -> Classifier:
    return classifier(Normalised(Network(), (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)))


@pytest.fixture(scope="module")
def x() -> Tensor:
    return torch.rand(40, *SHAPE, generator=torch.Generator().manual_seed(1))


def convolved(network: Classifier, x: Tensor) -> Tensor:
    """The sum of all outputs of the first convolution, in float64."""
    module: Normalised = network.module  # type: ignore[assignment]
    inner: nn.Conv2d = module.network.convolution  # type: ignore[assignment]
    assert inner.bias is not None
    z = (x.double() - module.mean.double()) / module.std.double()
    out = nn.functional.conv2d(z, inner.weight.double(), inner.bias.double(), stride=2, padding=1)
    return out.flatten(1).sum(dim=1)


@pytest.mark.slow
@pytest.mark.conformance
@pytest.mark.parametrize("defender", [ConvParity(gamma=0.0), ConvParity()], ids=str)
def test_conforms(defender: ConvParity) -> None:
    check_defender(defender)


def test_the_sum_is_that_of_the_convolution(network: Classifier, x: Tensor) -> None:
    a, c = first_convolution_sum(network)
    s = (x.double() * a).flatten(1).sum(dim=1) + c
    assert torch.allclose(s, convolved(network, x), atol=1e-11, rtol=0)


def test_its_gradient_is_the_transposed_convolution_of_ones(network: Classifier) -> None:
    a, _ = first_convolution_sum(network)
    module: Normalised = network.module  # type: ignore[assignment]
    inner: nn.Conv2d = module.network.convolution  # type: ignore[assignment]
    weight = inner.weight.double()
    ones = torch.ones(1, 5, 5, 4, dtype=torch.float64)
    transposed = nn.functional.conv_transpose2d(ones, weight, stride=2, padding=1, output_padding=(0, 1))
    assert torch.allclose(a, transposed[0] / module.std.double(), atol=1e-12)


@pytest.mark.parametrize("digit", [1e-6, 1e-3])
def test_parity_is_that_of_whole_numbers(network: Classifier, x: Tensor, digit: float) -> None:
    a, c = first_convolution_sum(network)
    weight = [round(Fraction(v) * 2**12) for v in a.flatten().tolist()]
    unit, constant = round(digit * 2**36), round(Fraction(c) * 2**36)
    expected = []
    for image in x:
        n = sum(round(Fraction(v) * 2**24) * w for v, w in zip(image.flatten().tolist(), weight, strict=True))
        expected.append(math.floor(Fraction(n + constant, unit)) % 2 == 0)
    assert Parity.of(network, digit).even(x).tolist() == expected
    assert 0.2 < sum(expected) / len(expected) < 0.8


def test_integers_stay_near_the_sum(network: Classifier, x: Tensor) -> None:
    """A is rounded to 2^-12, pixels to 2^-24."""
    parity = Parity.of(network, 1e-6)
    s = (exact_sum(x, parity.weight) + parity.constant).double() / 2**36
    assert (s - convolved(network, x)).abs().max() < x[0].numel() * 2**-13


def test_a_negative_sum_is_floored() -> None:
    parity = Parity(torch.tensor([-1]), 0, 3)
    x = torch.tensor([0, 1, 2, 3, 4, 6, 7]).view(-1, 1, 1, 1) / 2**24
    assert parity.even(x).tolist() == [math.floor(-n / 3) % 2 == 0 for n in (0, 1, 2, 3, 4, 6, 7)]


def test_parities_are_balanced_among_probes_of_one_estimate(network: Classifier, x: Tensor) -> None:
    """Late probes, at distance D / d: a coarse digit would give all of them one sign."""
    u = torch.randn(400, *SHAPE, generator=torch.Generator().manual_seed(2))
    delta = 0.5 / u[0].numel()
    probes = (x[:1] + delta * u / u.flatten(1).norm(dim=1).view(-1, 1, 1, 1)).clamp(0, 1)
    fine, coarse = (Parity.of(network, digit).even(probes).float().mean() for digit in (1e-6, 10.0))
    assert 0.4 < fine < 0.6
    assert coarse in (0.0, 1.0)


def test_8_bit_images_keep_their_levels() -> None:
    x = (torch.arange(256) / 255).view(-1, 1, 1, 1)
    exact = [round(Fraction(k, 255) * 2**24) for k in range(256)]
    assert (levels(x).flatten() - torch.tensor(exact)).abs().max() <= 1
    assert len(torch.unique(levels(x))) == 256


@pytest.mark.parametrize(
    ("module", "sentence"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(216, 4)), "has no torch.nn.Conv2d that can be reached"),
        (nn.Sequential(nn.Sigmoid(), Network()), "what precedes the first convolution of .* is not affine"),
        (Network(1e9), "integers of 64 bits hold it to 6.71e"),
        (Before("cast"), "in float64; there 'Before' fails: Input type"),
        (Before("cut off"), "no gradient leads through 'Before' to its first convolution"),
        (Before("nan"), "the sum of the first convolution of 'Before' is not finite"),
        (Before("single").eval().requires_grad_(False), "a copy of 'Before'; none can be made: there is but"),
    ],
)
def test_a_network_without_such_a_sum_is_told(module: nn.Module, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Parity.of(classifier(module), 1e-6)


def test_what_precedes_the_first_convolution_may_work_in_place() -> None:
    weight, c = first_convolution_sum(classifier(Before("in place")))
    plain, c0 = first_convolution_sum(classifier(Before("nothing")))
    assert torch.equal(weight, plain)
    assert c == pytest.approx(c0 - 0.5 * float(plain.sum()))


@pytest.mark.parametrize("digit", [0.0, 1e-300, 1e9, math.inf, math.nan])
def test_the_digit_is_checked(digit: float) -> None:
    with pytest.raises(ValueError, match=r"digit must be from 1e-10 to 1e\+07; found"):
        ConvParity(digit=digit)
