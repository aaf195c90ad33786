from __future__ import annotations

import argparse
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from arena.classifiers import ClassifierError
from arena.classifiers.weights import PICKLES, fit_weights, normalisation, read_weights

NET = {"0.weight": torch.arange(6.0).view(2, 3), "0.bias": torch.tensor([0.5, -0.5])}


def refused(path: Path, told: str) -> None:
    with pytest.raises(ClassifierError, match=told) as caught:
        read_weights(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_safetensors_come_with_their_card_and_no_remark(tmp_path: Path) -> None:
    save_file(NET, tmp_path / "w.safetensors", metadata={"source": "here", "norm_mean": "0.5"})
    found = read_weights(tmp_path / "w.safetensors")
    assert found.card == {"source": "here", "norm_mean": "0.5"}
    assert found.remarks == ()
    assert all(torch.equal(found.tensors[key], value) for key, value in NET.items())


@pytest.mark.parametrize("suffix", PICKLES)
@pytest.mark.parametrize("zipped", [True, False])
def test_pickles_of_tensors_are_read_with_a_remark(tmp_path: Path, suffix: str, zipped: bool) -> None:
    path = tmp_path / f"w{suffix}"
    torch.save(NET, path, _use_new_zipfile_serialization=zipped)
    found = read_weights(path)
    assert all(torch.equal(found.tensors[key], value) for key, value in NET.items())
    assert found.card == {}
    (remark,) = found.remarks
    assert str(path) in remark
    assert "is a pickle, read as tensors alone and without running anything" in remark
    assert "convert it to safetensors" in remark


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floats_become_float32_and_counters_stay(tmp_path: Path, dtype: torch.dtype) -> None:
    weights = {"w": torch.tensor([0.5, 2.0], dtype=dtype), "n": torch.tensor(7)}
    save_file(weights, tmp_path / "w.safetensors")
    torch.save(weights, tmp_path / "w.pth")
    for name in ("w.safetensors", "w.pth"):
        found = read_weights(tmp_path / name).tensors
        assert (found["w"].dtype, found["w"].tolist()) == (torch.float32, [0.5, 2.0])
        assert (found["n"].dtype, found["n"].item()) == (torch.int64, 7)


@pytest.mark.parametrize(
    "wrapped",
    [
        {"state_dict": NET, "epoch": 3, "best": 0.9},
        {"model": NET},
        {"net": NET, "acc": 91.2, "epoch": 199},
        {"model_state_dict": NET, "optimizer_state_dict": {"state": {}, "param_groups": [{"lr": 0.1}]}},
        {"ema": NET, "step": 10},
        {"model": {"state_dict": NET, "name": "tiny"}, "epoch": 1},
    ],
)
def test_containers_are_taken_off(tmp_path: Path, wrapped: dict[str, Any]) -> None:
    torch.save(wrapped, tmp_path / "w.ckpt")
    assert read_weights(tmp_path / "w.ckpt").tensors.keys() == NET.keys()


@pytest.mark.parametrize(
    ("held", "told"),
    [
        ({"model": NET, "ema": NET}, r"several sets of tensors \(model, ema\): save the one that you mean"),
        ({**NET, "epoch": 3}, r"must hold tensors alone, or in one of state_dict, .*; found epoch \(int\)"),
        ({"teacher": NET}, r"found teacher \((Ordered)?[dD]ict\)"),
        ([torch.zeros(2)], "must hold tensors by their keys; found a list"),
        (torch.zeros(2), "found a Tensor"),
        ({}, "found a dict"),
        ({"state_dict": {"w": 3}}, r"found w \(int\)"),
    ],
)
def test_what_holds_no_one_set_of_tensors_is_told(tmp_path: Path, held: Any, told: str) -> None:
    torch.save(held, tmp_path / "w.pt")
    refused(tmp_path / "w.pt", told)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("place", ["value", "key of a container", "whole"])
def test_malicious_pickles_run_nothing(tmp_path: Path, bait: Any, place: str, zipped: bool) -> None:
    held = {"value": {**NET, "x": bait}, "key of a container": {"state_dict": NET, "x": bait}, "whole": bait}
    torch.save(held[place], tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    refused(tmp_path / "w.pth", r"asks for posix\.mkdir, which is no tensor: .* is not read; where you trust")


@pytest.mark.parametrize("protocol", range(6))
def test_bare_pickles_run_nothing(tmp_path: Path, bait: Any, protocol: int) -> None:
    (tmp_path / "w.bin").write_bytes(pickle.dumps(bait, protocol))
    refused(
        tmp_path / "w.bin", r"asks for posix\.mkdir|holds a pickle of more than tensors|cut short, damaged"
    )


def test_the_bait_bites_where_it_is_unpickled_freely(tmp_path: Path, sprung: Any) -> None:
    torch.save({"x": sprung}, tmp_path / "w.pth")
    torch.load(tmp_path / "w.pth", weights_only=False)
    assert sprung.path.exists()


@pytest.mark.parametrize(
    ("extra", "asked"),
    [
        ({"args": argparse.Namespace(lr=0.1)}, r"argparse\.Namespace"),
        ({"acc": np.float64(0.9)}, r"numpy\.\w*core\.multiarray\.scalar"),
    ],
)
def test_what_training_code_keeps_besides_is_named(tmp_path: Path, extra: dict[str, Any], asked: str) -> None:
    torch.save({"state_dict": NET, **extra}, tmp_path / "w.pth")
    refused(
        tmp_path / "w.pth", rf"asks for {asked}, .* safetensors\.torch\.save_file\(network\.state_dict\(\)"
    )


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    place = content.find(torch.arange(6.0).numpy().tobytes())
    assert place > 0
    content[place + 4] ^= 1
    path.write_bytes(content)


def html(path: Path) -> None:
    path.write_bytes(b"\n<!DOCTYPE html><html><body>404</body></html>")


def pointer(path: Path) -> None:
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n")


def noise(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 4)


def bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(3):
            archive.writestr(f"w/data/{number}", bytes(40 * 2**20))


def twice(path: Path) -> None:
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(archive.namelist()[0], b"other")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (cut, "is cut short, damaged or no such file: File is not a zip file$"),
        (flipped, r"bad CRC-32 for"),
        (html, "is a web page, not the file"),
        (pointer, "only a Git LFS pointer to the file; .*git lfs pull"),
        (noise, "holds a pickle of more than tensors, or no pickle at all|damaged"),
        (bomb, r"would unpack from [\d,]+ to 125,829,120 bytes; it is not read"),
        (twice, "holds two members of one name"),
        (lambda path: path.write_bytes(b""), "is empty; get the file again"),
    ],
)
def test_broken_pickles_are_told(tmp_path: Path, change: Callable[[Path], None], told: str) -> None:
    path = tmp_path / "w.pth"
    torch.save(NET, path)
    change(path)
    refused(path, told)


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9])
def test_truncated_legacy_pickles_are_told(tmp_path: Path, keep: float) -> None:
    path = tmp_path / "w.pth"
    torch.save({"w": torch.zeros(500)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    refused(path, "is cut short, damaged|no pickle at all")


def test_other_files_are_told(tmp_path: Path) -> None:
    (tmp_path / "w.h5").write_bytes(b"x")
    refused(tmp_path / "w.h5", r"of one of the kinds \.safetensors, \.pt, ")
    (tmp_path / "w.pt").mkdir()
    refused(tmp_path / "w.pt", "is a folder")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_programs_are_no_weights(tmp_path: Path) -> None:
    torch.jit.script(nn.Linear(3, 2)).save(str(tmp_path / "w.pt"))  # type: ignore[no-untyped-call]
    refused(tmp_path / "w.pt", "holds a program .* name it as the network")


def renamed(prefix: str) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in NET.items()}


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "module.",
        "_orig_mod.",
        "model.",
        "network.",
        "model.module.",
        "module._orig_mod.",
        "module.model.",
    ],
)
def test_wrappers_prefixes_are_taken_off(prefix: str) -> None:
    module = nn.Sequential(nn.Linear(3, 2))
    fit_weights(module, renamed(prefix), "w")
    assert torch.equal(module.state_dict()["0.bias"], NET["0.bias"])


def test_the_count_of_averaged_models_is_taken_off() -> None:
    averaged = torch.optim.swa_utils.AveragedModel(nn.Sequential(nn.Linear(3, 2)))
    fit_weights(nn.Sequential(nn.Linear(3, 2)), averaged.state_dict(), "w")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"0.bias": torch.zeros(3)}, r"^w do not fit: of another shape: 0\.bias \[3\] instead of \[2\]$"),
        ({"fc.bias": torch.zeros(2)}, r"^w do not fit: unexpected: fc\.bias$"),
        ({"0.bias": torch.tensor([0.0, torch.inf])}, r"^w hold values that are not finite: 0\.bias$"),
    ],
)
def test_a_mismatch_names_the_keys(given: dict[str, Tensor], told: str) -> None:
    with pytest.raises(ClassifierError, match=told):
        fit_weights(nn.Sequential(nn.Linear(3, 2)), NET | given, "w")


def test_normalisation_of_a_card() -> None:
    assert normalisation({"source": "x"}, "w") is None
    assert normalisation({"norm_mean": "0.5, 0.25,1", "norm_std": "2"}, "w") == ((0.5, 0.25, 1.0), (2.0,))
    for card in ({"norm_mean": "0.5"}, {"norm_mean": "a", "norm_std": "1"}):
        with pytest.raises(
            ClassifierError, match=r"^w: metadata norm_mean and norm_std must both be numbers"
        ):
            normalisation(card, "w")
