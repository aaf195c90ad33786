"""What holds for every network of the table."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from arena.classifiers.networks import NETWORKS

NARROW: dict[str, dict[str, Any]] = {"wrn-28-10": {"depth": 10, "widen": 2}}
SMALL = {"resnet50": (3, 64, 64), "cifar-resnet50": (3, 16, 16)}  # they pool whatever size is left
PLAYED = [pytest.param(name, marks=pytest.mark.slow) if name in SMALL else name for name in NETWORKS]


def small(name: str, n: int) -> tuple[nn.Module, Tensor]:
    """A network, narrowed where it is large, and normalised images of the kind that it takes."""
    torch.manual_seed(0)
    return NETWORKS[name].factory(**NARROW.get(name, {})), torch.randn(
        n, *SMALL.get(name, NETWORKS[name].shape)
    )


def test_the_table_holds_the_papers_networks() -> None:
    assert set(NETWORKS) == {
        "digits-cnn",
        *("predcoin-mnist", "predcoin-gtsrb"),
        *("cw-mnist", "cw-mnist-bn", "cw-cifar10", "cw-cifar10-bn"),
        *("cnn-a", "resnet4b"),
        *("resnet20", "resnet32", "resnet44", "resnet56"),
        *("preact-resnet18", "vgg16", "wrn-28-10", "cifar-resnet50", "resnet50"),
    }


@pytest.mark.parametrize("name", NETWORKS)
def test_entry_is_whole(name: str) -> None:
    known = NETWORKS[name]
    parameters = inspect.signature(known.factory).parameters
    assert "classes" in parameters
    assert all(one.kind == inspect.Parameter.KEYWORD_ONLY for one in parameters.values())
    assert len(known.mean) == len(known.std) in (1, known.shape[0])
    with torch.device("meta"):
        for classes in (parameters["classes"].default, 7):
            net = known.factory(classes=classes)
            assert net(torch.empty(2, *known.shape)).shape == (2, classes)


@pytest.mark.parametrize("name", PLAYED)
def test_an_answer_at_play_depends_on_its_image_alone(name: str) -> None:
    net, x = small(name, 4)
    net(x)  # gives every BatchNorm statistics of its own
    net.eval()
    with torch.inference_mode():
        together, alone = net(x), torch.cat([net(image[None]) for image in x])
        beside = net(torch.cat([x[:1], 5 * torch.randn_like(x[1:])]))[:1]
    scale = together.abs().max()
    assert (together - alone).abs().max() <= 1e-4 * scale
    assert (together[:1] - beside).abs().max() <= 1e-4 * scale
    assert together.std(0).mean() > 1e-3 * scale  # and it does depend on that


@pytest.mark.parametrize("name", NETWORKS)
def test_torch_fx_can_trace_it(name: str) -> None:
    """Else its BatchNorms would not be fused."""
    with torch.device("meta"):
        net = NETWORKS[name].factory(**NARROW.get(name, {})).eval()
    called = {str(node.target) for node in fx.symbolic_trace(net).graph.nodes if node.op == "call_module"}
    weighted = {key for key, layer in net.named_modules() if isinstance(layer, nn.Conv2d | nn.BatchNorm2d)}
    assert weighted <= called


@pytest.mark.parametrize("name", PLAYED)
def test_gradients_reach_all_weights(name: str) -> None:
    net, x = small(name, 4)
    torch.autograd.backward(F.cross_entropy(net(x), torch.arange(4)))
    for key, weight in net.named_parameters():
        assert weight.grad is not None, key
        assert weight.grad.isfinite().all(), key
        assert weight.dim() == 1 or weight.grad.any(), key


@pytest.mark.parametrize("name", sorted(NETWORKS.keys() - {"digits-cnn"}))
def test_training_begins_with_logits_of_moderate_size(name: str) -> None:
    """Neither flat, as under torch's own initialisation (0.05 in the plain networks), nor sure of a class."""
    net, x = small(name, 16)
    with torch.inference_mode():
        assert 0.3 < net(x).std().item() < 8
