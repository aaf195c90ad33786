from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from arena.classifiers import Classifier, ClassifierError, ClassifierSpec, load_classifier
from arena.classifiers.loading import PACKAGED
from arena.datasets import Dataset

WEIGHTS = PACKAGED["digits_cnn"]


@pytest.fixture(autouse=True)
def factories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An importable module `my_networks`, and an empty folder as the current one and the user's cache."""
    module = tmp_path / "code" / "my_networks.py"
    module.parent.mkdir()
    module.write_text(
        "from torch import nn\n"
        "class Narrow(nn.Sequential):\n"
        "    def __init__(self, classes, bias=0.0):\n"
        "        super().__init__(nn.Flatten(), nn.Linear(64, classes))\n"
        "        nn.init.constant_(self[1].bias, bias)\n"
        "def number(): return 3\n"
        "def broken(): raise RuntimeError('out of order')\n"
    )
    monkeypatch.syspath_prepend(str(module.parent))
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("ARENA_DATA", raising=False)
    return here


def load(data: Dataset, network: str = "digits-cnn", **given: Any) -> Classifier:
    dirs = given.pop("dirs", ())
    return load_classifier(ClassifierSpec(network=network, **given), data, batch=256, data_dirs=dirs)


def test_packaged_weights_give_the_accuracy_they_record(data: Dataset, packaged: Classifier) -> None:
    with safe_open(WEIGHTS, "pt") as file:
        facts = file.metadata()
    assert data.sha in facts["data"]
    recorded = json.loads(facts["accuracy"])
    assert recorded["games"] >= 0.99
    for name, split in data.splits.items():
        right = (packaged(split.images).argmax(1) == split.labels).double().mean().item()
        assert right == pytest.approx(recorded[name], abs=0.004), name
    assert (packaged.name, packaged.shape, packaged.classes) == ("digits-cnn", (1, 8, 8), 10)


def test_packaged_weights_by_name(data: Dataset, packaged: Classifier) -> None:
    assert load(data, weights="digits_cnn").sha == packaged.sha


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_prefixes_of_wrappers_are_stripped(
    data: Dataset, packaged: Classifier, tmp_path: Path, prefix: str
) -> None:
    save_file({prefix + key: value for key, value in load_file(WEIGHTS).items()}, tmp_path / "w.safetensors")
    assert load(data, weights=str(tmp_path / "w.safetensors")).sha == packaged.sha


def test_weights_are_found_along_the_search_path(
    data: Dataset, tmp_path: Path, factories: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARENA_DATA", str(tmp_path / "named"))
    order = [
        tmp_path / "scenario",
        tmp_path / "data" / "weights",
        factories,
        tmp_path / "named",
        tmp_path / "cache" / "arena" / "weights",
    ]
    dirs = [tmp_path / "scenario", tmp_path / "data"]
    for number, folder in reversed(list(enumerate(order))):
        folder.mkdir(parents=True, exist_ok=True)
        bias = torch.zeros(10)
        bias[number] = 1
        save_file({"1.weight": torch.zeros(10, 64), "1.bias": bias}, folder / "w.safetensors")
        found = load(data, "my_networks:Narrow", weights="w.safetensors", params={"classes": 10}, dirs=dirs)
        assert found(data.games.take(slice(0, 1))).argmax().item() == number


def test_factory_may_have_weights_of_its_own(data: Dataset) -> None:
    classifier = load(data, "my_networks:Narrow", params={"classes": 12, "bias": 2.0})
    assert classifier.classes == 12
    assert classifier.name == "my_networks:Narrow"
    assert classifier(torch.zeros(1, 1, 8, 8)).eq(2).all()


def test_own_keys_that_look_like_a_prefix_are_kept(data: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "code" / "my_wrapped.py"
    path.write_text(
        "from torch import nn\n"
        "class Wrapped(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.module = nn.Linear(64, 10)\n"
        "    def forward(self, x): return self.module(x.flatten(1))\n"
    )
    weights = {"module.weight": torch.ones(10, 64), "module.bias": torch.arange(10.0)}
    save_file(weights, tmp_path / "w.safetensors")
    classifier = load(data, "my_wrapped:Wrapped", weights=str(tmp_path / "w.safetensors"))
    assert torch.equal(classifier(torch.zeros(1, 1, 8, 8))[0], torch.arange(10.0))


@pytest.mark.parametrize(
    ("network", "given", "told"),
    [
        (
            "digit-cnn",
            {},
            'no network "digit-cnn"; did you mean "digits-cnn"\\? allowed: digits-cnn, resnet20, r',
        ),
        ("resnet20", {}, 'network "resnet20" needs weights'),
        ("no_such_module:f", {}, "no_such_module cannot be imported: No module named"),
        ("my_networks:Narrov", {}, 'no such callable in my_networks; did you mean "Narrow"'),
        ("my_networks:Narrow", {"params": {"clases": 3}}, 'did you mean "classes"\\? allowed: bias, classes'),
        ("my_networks:Narrow", {}, "missing a required argument: 'classes'; allowed: bias, classes"),
        ("my_networks:number", {}, "must return a torch.nn.Module, not a int"),
        ("my_networks:broken", {}, "cannot be built: out of order"),
        ("my_networks:Narrow", {"params": {"classes": 9}}, 'too few for data set "digits" with 10'),
        ("my_networks:Narrow", {"params": {"classes": "x"}}, "cannot be built: "),
        ("torch.nn:Identity", {}, r"must answer images .* not with float32 \[1, 1, 8, 8\]"),
        (
            "torch.nn:Linear",
            {"params": {"in_features": 5, "out_features": 2}},
            r"cannot take images of shape \[1, 8, 8\]",
        ),
    ],
)
def test_bad_network_is_told_in_one_sentence(
    data: Dataset, network: str, given: dict[str, Any], told: str
) -> None:
    with pytest.raises(ClassifierError, match=told) as caught:
        load(data, network, **given)
    assert "\n" not in str(caught.value)


def reshaped(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return weights | {"head.3.bias": torch.zeros(11)}


def renamed(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.replace("head.3", "fc"): value for key, value in weights.items()}


def broken(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return weights | {"head.3.bias": torch.full((10,), torch.nan)}


def foreign(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"a.{number}": torch.zeros(1) for number in range(8)}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (reshaped, r"do not fit: of another shape: head\.3\.bias \[11\] instead of \[10\]"),
        (renamed, r"missing: head\.3\.bias, head\.3\.weight; unexpected: fc\.bias, fc\.weight"),
        (broken, r"values that are not finite: head\.3\.bias"),
        (foreign, r"unexpected: a\.0, a\.1, a\.2, a\.3, a\.4 and 3 more"),
    ],
)
def test_weights_that_do_not_fit_are_told_in_one_sentence(
    data: Dataset, tmp_path: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]], told: str
) -> None:
    path = tmp_path / "w.safetensors"
    save_file(change(load_file(WEIGHTS)), path)
    with pytest.raises(ClassifierError, match=told) as caught:
        load(data, weights=str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["truncated", "tampered header", "pickle", "empty"])
def test_broken_file_is_told_in_one_sentence(data: Dataset, tmp_path: Path, content: str) -> None:
    path, whole = tmp_path / "w.safetensors", WEIGHTS.read_bytes()
    if content == "truncated":
        path.write_bytes(whole[:-100])
    elif content == "tampered header":
        path.write_bytes(whole.replace(b'"F32"', b'"F99"', 1))
    elif content == "pickle":
        torch.save({"weight": torch.zeros(3)}, path)
    else:
        path.touch()
    with pytest.raises(ClassifierError, match=r"cannot be read as a safetensors file: ") as caught:
        load(data, weights=str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_weights_say_where_they_were_looked_for(
    data: Dataset, tmp_path: Path, factories: Path
) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        load(data, weights="absent.safetensors", dirs=[tmp_path / "scenario"])
    for place in (tmp_path / "scenario", factories, tmp_path / "cache" / "arena"):
        assert str(place) in str(caught.value)
    assert "digits_cnn" in str(caught.value)
    with pytest.raises(FileNotFoundError, match=r"there is no /nowhere/w\.safetensors"):
        load(data, weights="/nowhere/w.safetensors")


def test_spec_is_a_key_and_forbids_what_it_does_not_know() -> None:
    one = ClassifierSpec(network="a:b", params={"x": [1], "y": 2})
    two = ClassifierSpec(network="a:b", params={"y": 2, "x": [1]})
    assert one == two
    assert len({one, two, ClassifierSpec(network="a:b")}) == 2
    with pytest.raises(ValidationError, match="weight\n"):
        ClassifierSpec.model_validate({"network": "digits-cnn", "weight": "x"})
