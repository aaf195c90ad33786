from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from arena.classifiers import Classifier, ClassifierError, ClassifierSpec, load_classifier
from arena.classifiers.building import Built
from arena.classifiers.loading import PACKAGED, _normalised
from arena.classifiers.networks import NETWORKS, Network
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
    dirs, trusted = given.pop("dirs", ()), given.pop("trusted", ())
    spec = ClassifierSpec(network=network, **given)
    return load_classifier(spec, data, batch=256, data_dirs=dirs, trusted=trusted)


def test_packaged_weights_give_the_accuracy_they_record(data: Dataset, packaged: Classifier) -> None:
    with safe_open(WEIGHTS, "pt") as file:
        facts = file.metadata()
    assert data.sha in facts["data"]
    recorded = json.loads(facts["accuracy"])
    assert recorded["games"] >= 0.99
    for name, split in data.splits.items():
        right = (packaged(split.images).argmax(1) == split.labels).double().mean().item()
        written = "attackers" if name == "resources" else name  # as the split was called then
        assert right == pytest.approx(recorded[written], abs=0.004), name
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


def test_weights_for_one_network_object_leave_it_and_other_classifiers_alone(
    data: Dataset, tmp_path: Path
) -> None:
    (tmp_path / "code" / "my_object.py").write_text(
        "from torch import nn\n"
        "net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval().requires_grad_(False)\n"
    )
    loaded = []
    for bias in (0.0, 1.0):
        path = tmp_path / f"{bias}.safetensors"
        save_file({"1.weight": torch.zeros(10, 64), "1.bias": torch.full((10,), bias)}, path)
        loaded.append(load(data, "my_object:net", weights=str(path)))
    assert [one(torch.zeros(1, 1, 8, 8))[0, 0].item() for one in loaded] == [0.0, 1.0]


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
            'no network "digit-cnn"; did you mean "digits-cnn"\\? allowed: .*digits-cnn, .*, or '
            "module:Class, timm:NAME, torchvision:NAME, a file ",
        ),
        ("resnet20", {}, 'network "resnet20" needs weights'),
        ("no_such_module:f", {}, "no_such_module cannot be imported: ModuleNotFoundError: No module named"),
        ("my_networks:Narrov", {}, 'my_networks has no "Narrov"; did you mean "Narrow"'),
        ("my_networks:Narrow", {"params": {"clases": 3}}, 'did you mean "classes"\\? allowed: bias, classes'),
        ("my_networks:Narrow", {}, "missing a required argument: 'classes'; allowed: bias, classes"),
        (
            "my_networks:number",
            {"trusted": ["my_networks:number"]},
            "must return a torch\\.nn\\.Module, or a numpy function in a FromNumpy, not a int",
        ),
        ("my_networks:broken", {"trusted": ["my_networks:broken"]}, "cannot be built: out of order"),
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


@pytest.mark.parametrize("content", ["truncated", "tampered header", "pickle"])
def test_broken_file_is_told_in_one_sentence(data: Dataset, tmp_path: Path, content: str) -> None:
    path, whole = tmp_path / "w.safetensors", WEIGHTS.read_bytes()
    if content == "truncated":
        path.write_bytes(whole[:-100])
    elif content == "tampered header":
        path.write_bytes(whole.replace(b'"F32"', b'"F99"', 1))
    else:
        torch.save({"weight": torch.zeros(3)}, path)
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


def linear(bias: Tensor) -> dict[str, Tensor]:
    """Weights of my_networks:Narrow that sum each image and add a bias."""
    return {"1.weight": torch.ones(10, 64), "1.bias": bias}


def sums(x: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    return ((x - mean) / std).flatten(1).sum(1, keepdim=True) + torch.arange(10.0)


@pytest.mark.parametrize(
    ("metadata", "given", "mean", "std"),
    [
        ({}, {}, 0.0, 1.0),
        ({"norm_mean": "0.5", "norm_std": "0.25"}, {}, 0.5, 0.25),
        ({"norm_mean": "0.5", "norm_std": "0.25"}, {"mean": 0.125, "std": [2]}, 0.125, 2.0),
        ({"norm_mean": "0.5", "norm_std": "0.25"}, {"mean": 0, "std": 1}, 0.0, 1.0),
        ({}, {"mean": [0.5], "std": 1}, 0.5, 1.0),
    ],
)
def test_the_spec_goes_before_the_metadata(
    data: Dataset, tmp_path: Path, metadata: dict[str, str], given: dict[str, Any], mean: float, std: float
) -> None:
    path = tmp_path / "w.safetensors"
    save_file(linear(torch.arange(10.0)), path, metadata=metadata or None)
    made = load(data, "my_networks:Narrow", weights=str(path), params={"classes": 10}, **given)
    x = data.games.take(slice(0, 4))
    assert torch.allclose(made(x), sums(x, mean, std), rtol=1e-5, atol=1e-3)
    assert dict(made.card) == metadata


def test_the_table_goes_last(data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def network(classes: int = 10) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))

    monkeypatch.setitem(NETWORKS, "sum", Network(network, (1, 8, 8), (0.5,), (2.0,)))
    x = data.games.take(slice(0, 4))
    save_file(linear(torch.arange(10.0)), tmp_path / "plain.safetensors")
    said = {"norm_mean": "0.25", "norm_std": "1"}
    save_file(linear(torch.arange(10.0)), tmp_path / "said.safetensors", metadata=said)
    for name, mean, std in (("plain", 0.5, 2.0), ("said", 0.25, 1.0)):
        made = load(data, "sum", weights=str(tmp_path / f"{name}.safetensors"))
        assert torch.allclose(made(x), sums(x, mean, std), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize(
    ("metadata", "given", "told"),
    [
        ({"norm_mean": "x", "norm_std": "1"}, {}, "must both be numbers between commas"),
        ({"norm_mean": "0.5", "norm_std": "0"}, {}, "std above 0"),
        ({"norm_mean": "0.1,0.2,0.3", "norm_std": "1,1,1"}, {}, "one for each of the 1 channels"),
        ({}, {"mean": [0.1, 0.2], "std": 1}, "one for each of the 1 channels"),
    ],
)
def test_normalisations_that_do_not_fit_are_told(
    data: Dataset, tmp_path: Path, metadata: dict[str, str], given: dict[str, Any], told: str
) -> None:
    path = tmp_path / "w.safetensors"
    save_file(linear(torch.zeros(10)), path, metadata=metadata or None)
    with pytest.raises(ClassifierError, match=told) as caught:
        load(data, "my_networks:Narrow", weights=str(path), params={"classes": 10}, **given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("network", "told"),
    [
        (
            "resnet20",
            r"one for each of the 1 channels of images \[1, 8, 8\]; the network is made for \[3, 32, 32\]$",
        ),
        (
            "predcoin-mnist",
            r"cannot take images of shape \[1, 8, 8\]: .*; the network is made for \[1, 28, 28\]$",
        ),
    ],
)
def test_what_a_network_of_the_table_is_made_for_is_told(
    data: Dataset, tmp_path: Path, network: str, told: str
) -> None:
    path = tmp_path / "w.safetensors"
    save_file(NETWORKS[network].factory().state_dict(), path)
    with pytest.raises(ClassifierError, match=told) as caught:
        load(data, network, weights=str(path))
    assert "\n" not in str(caught.value)


def test_one_value_stands_for_all_channels_beside_one_each() -> None:
    module = nn.Identity()
    spec = ClassifierSpec(network="a:b", mean=(0.1, 0.2, 0.3), std=(0.5,))
    made = _normalised(spec, Built(module, "b"), (3, 4, 4))
    x = torch.rand(2, 3, 4, 4)
    assert torch.allclose(made(x), (x - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)) / 0.5)


def test_a_checkpoint_is_read_with_a_remark(data: Dataset, packaged: Classifier, tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save({"state_dict": {f"module.{k}": v.half() for k, v in load_file(WEIGHTS).items()}}, path)
    made = load(data, weights=str(path))
    assert any("is a pickle, read as tensors alone" in remark for remark in made.remarks)
    assert next(made.module.parameters()).dtype == torch.float32
    x = data.games.take(slice(0, 50))
    assert torch.allclose(made(x), packaged(x), rtol=0.02, atol=0.1)
    assert packaged.remarks == ()
    assert "recipe" in packaged.card


def test_weights_of_a_training_elsewhere_come_with_a_remark(data: Dataset, tmp_path: Path) -> None:
    def remarks(on: Dataset, **card: str) -> tuple[str, ...]:
        save_file(load_file(WEIGHTS), tmp_path / "w.safetensors", metadata=card or None)
        return load(on, weights=str(tmp_path / "w.safetensors")).remarks

    same = {"dataset": "digits", "dataset_sha": data.sha}
    swapped = replace(data, games=data.train, train=data.games)
    assert remarks(data) == remarks(data, **same) == remarks(data, dataset="mnist") == ()
    assert remarks(data, dataset_sha="0" * 64) == ()
    end = "images of the games may have been trained on"
    assert remarks(swapped, **same) == (
        f'the weights were trained on data set "digits" with sha {data.sha[:12]}, not on this one (sha '
        f"{swapped.sha[:12]}): {end}",
    )
    (said,) = remarks(data, dataset="a\nb", dataset_sha="\x1b[2J")
    assert said.startswith('the weights were trained on data set "a b" with sha  [2J, not on') and end in said


def test_malicious_weights_run_nothing(data: Dataset, tmp_path: Path, bait: Any) -> None:
    torch.save({"state_dict": load_file(WEIGHTS), "x": bait}, tmp_path / "w.pth")
    with pytest.raises(ClassifierError, match=r"asks for posix\.mkdir, which is no tensor"):
        load(data, weights=str(tmp_path / "w.pth"))


def test_a_pin_holds_the_classifier(data: Dataset, packaged: Classifier) -> None:
    for digits in (12, 20, 64):
        assert load(data, sha=packaged.sha[:digits].upper()).sha == packaged.sha
    with pytest.raises(ClassifierError, match=rf"found sha {packaged.sha}, wanted 0123456789ab$"):
        load(data, sha="0123456789ab")


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A program in the folder `weights` of a data folder."""
    path = tmp_path / "data" / "weights" / "sum.pt2"
    path.parent.mkdir(parents=True)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    network.load_state_dict(linear(torch.arange(10.0)))
    torch.export.save(torch.export.export(network, (torch.rand(4, 1, 8, 8),)), path)
    return path


def test_a_program_is_found_and_answers(data: Dataset, program: Path) -> None:
    x = data.games.take(slice(0, 7))
    made = load(data, "sum.pt2", dirs=[program.parents[1]])
    assert made.name == "sum.pt2"
    assert torch.allclose(made(x), sums(x), atol=1e-4)
    again = load(data, str(program), mean=0.5, std=2, sha=None)
    assert torch.allclose(again(x), sums(x, 0.5, 2.0), atol=1e-4)
    assert again.sha != made.sha


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"weights": "digits_cnn"}, r"is a program file, which holds its own: it takes no weights"),
        ({"params": {"classes": 3}}, "is a program file and takes no params"),
    ],
)
def test_a_program_stands_alone(data: Dataset, program: Path, given: dict[str, Any], told: str) -> None:
    with pytest.raises(ClassifierError, match=told):
        load(data, str(program), **given)


def test_a_colon_is_a_modules(data: Dataset) -> None:
    with pytest.raises(ClassifierError, match="must hold no colon"):
        load(data, "here:there.onnx")


def test_a_program_for_other_images_is_told(data: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "colour.pt2"
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 10)).eval()
    torch.export.save(torch.export.export(network, (torch.rand(2, 3, 4, 4),)), path)
    with pytest.raises(
        ClassifierError, match=r'takes images \[3,4,4\]; data set "digits" has images \[1, 8, 8\]'
    ):
        load(data, str(path))


def test_a_missing_program_says_where_it_was_looked_for(data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"no absent\.onnx or weights.absent\.onnx in any of "
    ) as caught:
        load(data, "absent.onnx", dirs=[tmp_path / "scenario"])
    assert str(tmp_path / "scenario") in str(caught.value)


@pytest.fixture
def numpy_module(tmp_path: Path) -> None:
    (tmp_path / "code" / "my_numpy.py").write_text(
        "import numpy as np\n"
        "from arena.classifiers import FromNumpy\n"
        "@FromNumpy\n"
        "def decorated(x): return x.reshape(len(x), -1).sum(1, keepdims=True) + np.arange(10.0)\n"
        "def factory(shift=0.0): return FromNumpy(lambda x: decorated.function(x) + shift, classes=10)\n"
        "def bare(): return lambda x: x\n"
    )


@pytest.mark.usefixtures("numpy_module")
def test_a_numpy_function_in_a_scenario(data: Dataset) -> None:
    x = data.games.take(slice(0, 7))
    assert torch.allclose(load(data, "my_numpy:decorated")(x), sums(x), atol=1e-4)
    made = load(
        data, "my_numpy:factory", params={"shift": 2.0}, mean=0.5, std=2, trusted=["my_numpy:factory"]
    )
    assert torch.allclose(made(x), sums(x, 0.5, 2.0) + 2, atol=1e-4)
    with pytest.raises(ClassifierError, match="gives no gradients"):
        made.differentiable(x.requires_grad_())


@pytest.mark.usefixtures("numpy_module")
@pytest.mark.parametrize(
    ("network", "given", "told"),
    [
        (
            "factory",
            {"weights": "digits_cnn"},
            "is a numpy function, which holds its own: it takes no weights",
        ),
        ("factory", {"precision": "bf16"}, 'does not run in torch: precision = "bf16" does nothing there'),
        ("factory", {"compile": True}, "does not run in torch: compile = true does nothing there"),
        ("bare", {}, "or a numpy function in a FromNumpy, not a function"),
    ],
)
def test_a_numpy_function_has_no_weights_or_precision(
    data: Dataset, network: str, given: dict[str, Any], told: str
) -> None:
    with pytest.raises(ClassifierError, match=told):
        load(data, f"my_numpy:{network}", trusted=[f"my_numpy:{network}"], **given)


def test_precision_and_compilation_are_handed_on(data: Dataset) -> None:
    made = load(data, precision="bf16")
    assert (made.precision, made.compile) == ("bf16", False)
    with pytest.raises(ClassifierError, match='precision "tf32" is for CUDA devices'):
        load(data, precision="tf32")
