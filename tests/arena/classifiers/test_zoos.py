"""timm and torchvision, by modules that stand in for them: neither is a dependency."""

from __future__ import annotations

import enum
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from arena.classifiers import Classifier, ClassifierError, ClassifierSpec, load_classifier
from arena.datasets import Dataset

MEAN, STD = 0.25, 2.0


class Tiny(nn.Sequential):
    """All ones and biases 0, 1, 2, ... where it is pretrained, else zeros."""

    def __init__(self, pretrained: bool, num_classes: int) -> None:
        super().__init__(nn.Flatten(), nn.Linear(64, num_classes))
        self[1].weight.data = torch.full((num_classes, 64), float(pretrained))
        self[1].bias.data = float(pretrained) * torch.arange(float(num_classes))


def forced() -> bool:
    return os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD") == "1"


@pytest.fixture(autouse=True)
def packages(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Stand-ins for timm and torchvision; the list says of each network whether its making was guarded."""
    guarded: list[bool] = []
    timm: Any = ModuleType("timm")
    timm.is_model = lambda name: name in ("tiny", "odd")
    timm.list_models = lambda: ["odd", "tiny"]

    def create_model(name: str, pretrained: bool = False, num_classes: int = 10) -> Any:
        guarded.append(forced() and "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD" not in os.environ)
        if name == "odd":
            raise RuntimeError("no way\nat all")
        module = Tiny(pretrained, num_classes)
        module.pretrained_cfg = {"mean": (MEAN,), "std": (STD,)}  # type: ignore[assignment]
        return module

    timm.create_model = create_model

    class TinyWeights(enum.Enum):
        FIRST = 1
        DEFAULT = 1  # noqa: PIE796 (an alias, as torchvision's)

        def transforms(self) -> Any:
            return SimpleNamespace(mean=[MEAN], std=[STD])

    def get_model(name: str, weights: Any = None, num_classes: int = 10) -> nn.Module:
        guarded.append(forced())
        assert weights is None or isinstance(weights, TinyWeights)
        return Tiny(weights is not None, num_classes)

    torchvision: Any = ModuleType("torchvision")
    torchvision.models = SimpleNamespace(
        list_models=lambda: ["tiny"], get_model_weights=lambda name: TinyWeights, get_model=get_model
    )
    monkeypatch.setitem(sys.modules, "timm", timm)
    monkeypatch.setitem(sys.modules, "torchvision", torchvision)
    return guarded


def load(data: Dataset, network: str, **given: Any) -> Classifier:
    return load_classifier(ClassifierSpec(network=network, **given), data)


PRETRAINED = [
    ("timm:tiny", {"pretrained": True}),
    ("timm:tiny.tag_of_weights", {"pretrained": True}),
    ("torchvision:tiny", {"weights": "DEFAULT"}),
    ("torchvision:tiny", {"weights": "FIRST"}),
]


@pytest.mark.parametrize(("network", "params"), PRETRAINED)
def test_pretrained_weights_come_with_their_normalisation(
    data: Dataset, packages: list[bool], monkeypatch: pytest.MonkeyPatch, network: str, params: dict[str, Any]
) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    classifier = load(data, network, params=params)
    x = data.games.take(slice(0, 3))
    expected = ((x - MEAN) / STD).flatten(1).sum(1, keepdim=True) + torch.arange(10.0)
    assert torch.allclose(classifier(x), expected, atol=1e-3)
    assert classifier.name == network
    assert packages == [True]
    assert not forced()
    assert os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] == "1"


@pytest.mark.parametrize("network", ["timm:tiny", "torchvision:tiny"])
def test_a_file_of_weights_is_put_into_the_network(data: Dataset, tmp_path: Path, network: str) -> None:
    save_file(Tiny(True, 10).state_dict(), tmp_path / "w.safetensors")
    given = {"weights": str(tmp_path / "w.safetensors"), "params": {"num_classes": 10}}
    x = data.games.take(slice(0, 3))
    own = ((x - MEAN) / STD).flatten(1).sum(1, keepdim=True) + torch.arange(10.0)
    assert torch.allclose(load(data, network, **given)(x), own, atol=1e-3)
    plain = x.flatten(1).sum(1, keepdim=True) + torch.arange(10.0)
    assert torch.allclose(load(data, network, **given, mean=0, std=1)(x), plain, atol=1e-3)


@pytest.mark.parametrize(
    ("network", "params", "told"),
    [
        ("timm:tiny", {}, r"needs weights: a safetensors file, or params = \{ pretrained = true \}"),
        ("torchvision:tiny", {}, r'needs weights: a safetensors file, or params = \{ weights = "DEFAULT" \}'),
        ("timm:tinny", {}, r'timm has no network "tinny"; did you mean "tiny"\? timm\.list_models\(\) lists'),
        (
            "torchvision:big",
            {},
            r'torchvision has no network "big"; torchvision\.models\.list_models\(\) lists',
        ),
        ("timm:odd", {}, r'"timm:odd" cannot be built: no way$'),
        ("timm:tiny", {"clases": 3}, "cannot be built: .*clases"),
        ("torchvision:tiny", {"weights": "SECOND"}, 'has no weights "SECOND"; allowed: DEFAULT, FIRST'),
    ],
)
def test_what_they_do_not_have_is_told(
    data: Dataset, network: str, params: dict[str, Any], told: str
) -> None:
    with pytest.raises(ClassifierError, match=told) as caught:
        load(data, network, params=params)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("package", ["timm", "torchvision"])
def test_without_the_package_the_extra_is_named(
    data: Dataset, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ClassifierError, match=rf"is not installed: install blackbox-arena\[{package}\]"):
        load(data, f"{package}:resnet18")
