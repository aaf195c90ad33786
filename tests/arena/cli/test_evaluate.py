"""`arena evaluate` as a user types it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from arena.classifiers.loading import PACKAGED
from arena.cli.app import app
from arena.cli.evaluate import _remarks, worlds_of_file

SCENARIO = """
games = 10
attackers = ["square", "random-search"]
defenders = ["none", { name = "snd", sigma = 0.05 }]
threat = { epsilon = 0.2, budget = 20 }
[[block]]
[[block]]
defenders = [{ name = "snd", sigma = 0.1 }, { stack = [{ name = "snd" }, { name = "rnd" }] }]
[[block]]
seed = 4
defenders = ["rnd"]
"""


@pytest.fixture
def scenario(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "small.toml"
    file.write_text(SCENARIO)
    return file


def arena(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["evaluate", *words], catch_exceptions=False)
    return result.exit_code, result.output


def test_a_table_with_the_undefended_first() -> None:
    code, said = arena("--device", "cpu", "--images", "100", "--defender", "snd")
    assert code == 0
    lines = [re.split(r"\s{2,}", line.strip()) for line in said.splitlines()]
    assert "digits-cnn on 100 images of digits (games), cpu" in said
    names = [line[0] for line in lines if line[0] in ("none", "snd")]
    assert names == ["none", "snd"]
    (none,) = (line for line in lines if line[0] == "none")
    assert re.fullmatch(r"[\d.]+ \[[\d.]+, [\d.]+\]", none[1])
    assert none[2] == "100.00"


def test_bars_and_a_picture_along_the_images(tmp_path: Path) -> None:
    to = tmp_path / "bins.svg"
    code, said = arena("--device", "cpu", "--images", "100", "--defender", "rnd", "--picture", str(to))
    assert code == 0
    bars = [line for line in said.splitlines() if line.startswith("probability ") and "; accuracy " in line]
    assert [line.split()[-1] for line in bars] == ["none", "rnd"]
    assert "moved by   0.0" in bars[0] and "moved by   0.0" not in bars[1]
    text = to.read_text()
    assert ">none<" in text and ">rnd<" in text and f"picture: {to}" in said.replace("\n", "")
    for wrong, why in (("bins.bmp", "one of .png, .svg, .pdf"), ("nowhere/bins.svg", "there is no folder")):
        code, said = arena("--images", "10", "--picture", str(tmp_path / wrong))
        assert code and why in " ".join(said.split())


def test_figures_as_json() -> None:
    table = '{"name": "aaa-sine", "alpha": 0.5}'
    words = ("--device", "cpu", "--images", "60", "--batch", "16", "--split", "calibration")
    code, said = arena(*words, "--defender", table, "--json")
    assert code == 0
    none, aaa = json.loads(said)
    assert (none["defender"], aaa["defender"]) == ("none", table)
    assert none["split"] == aaa["split"] == "calibration"
    assert (none["images"], none["batch"], none["agreement"]) == (60, 16, 1)
    assert none["accuracy"] == aaa["accuracy"]
    assert none["cost_1"] is None and none["seconds_1"] > 0, "no defense has no cost"
    assert aaa["cost_1"] > 1 and aaa["peak_bytes"] > 0
    bins = aaa["reliability"]
    assert {name: len(values) for name, values in bins.items()} == dict.fromkeys(bins, 60)
    assert bins["undefended"] == none["reliability"]["undefended"] == none["reliability"]["defended"]
    assert bins["accuracy"] == none["reliability"]["accuracy"], "AAA changes no label"
    assert bins["defended"] != bins["undefended"]
    assert none["facts"] == {} and "temperature" in aaa["facts"]["aaa-sine"]
    assert len(none["classifier_sha"]) == 64


def test_how_far_images_move_and_the_loss_spreads() -> None:
    words = ("--device", "cpu", "--images", "40", "--answers", "3")
    snd = ("--defender", '{"name": "snd", "sigma": 0.05}')
    code, said = arena(*words, *snd)
    assert code == 0
    assert "input l2: mean" in said and "spread: standard" in said
    assert "million multiply-adds a query, element-wise work not counted: 0.9159" in said
    code, said = arena(*words, *snd, "--json")
    none, noisy = json.loads(said)
    assert (none["input_l2"], none["loss_spread"], none["answers"]) == (0, 0, 3)
    assert 0.3 < noisy["input_l2"] < 0.5, "64 pixels, clean in [0,1], of noise .05"
    assert 0 < noisy["loss_spread"] < 0.5
    assert none["multiply_adds"] == noisy["multiply_adds"] == 915_936
    _, said = arena("--device", "cpu", "--images", "40")
    assert "input l2: mean" not in said and "spread: standard" not in said


def test_a_scenarios_worlds_and_stacks_come_once(scenario: Path) -> None:
    worlds, folders = worlds_of_file(str(scenario))
    assert folders == [scenario.parent]
    assert [[title for title, _ in world.stacks] for world in worlds] == [
        ["none", "snd", "snd'", "snd+rnd"],
        ["none", "rnd"],
    ]
    assert [world.seed for world in worlds] == [0, 4]
    assert [d.sigma for _, (d, *_) in worlds[0].stacks[1:3]] == [0.05, 0.1]  # type: ignore[attr-defined]
    code, said = arena(str(scenario), "--images", "50", "--device", "cpu")
    assert code == 0
    assert said.count("digits-cnn on 50 images of digits (games), cpu") == 2


WORLDS = """
attackers = ["square"]
defenders = ["none"]
threat = { epsilon = 0.1, budget = 10 }
size = "all"
[[sizes.all.worlds]]
dataset = "digits"
classifier = { network = "digits-cnn", weights = "nowhere.safetensors" }
[[sizes.all.worlds]]
dataset = "digits"
classifier = "digits-cnn"
[[sizes.absent.worlds]]
dataset = "digits"
classifier = { network = "digits-cnn", weights = "nowhere.safetensors" }
"""


def test_a_world_that_is_absent_is_told_and_the_others_are_measured(tmp_path: Path) -> None:
    file = tmp_path / "worlds.toml"
    file.write_text(WORLDS)
    code, said = arena(str(file), "--images", "20", "--device", "cpu")
    assert code == 3
    assert "failed: digits-cnn on digits: " in said and "nowhere.safetensors" in said
    assert said.count("digits-cnn on 20 images of digits (games), cpu") == 1
    code, said = arena(str(file), "--size", "absent", "--images", "20", "--device", "cpu")
    assert code not in (0, 3) and "nowhere.safetensors" in said and "failed:" not in said
    code, said = arena("--size", "all", "--images", "20")
    assert code not in (0, 3) and "--size: it is one of a scenario's" in said


@pytest.mark.parametrize(
    ("accuracy", "said"),
    [
        ("0.99", "accuracy 0.99"),
        ('{"games": {"images": 10000, "accuracy": 0.9912}}', "accuracy 99.12 % on 10,000 images of games"),
        ('{"train": {"images": 1, "accuracy": 1}}', 'accuracy {"train": {"images": 1, "accuracy": 1}}'),
        ("[]", "accuracy []"),
        ("1\x1b[2J\nremark: trust it", "accuracy 1 [2J remark: trust it"),
    ],
)
def test_remarks_and_a_card_are_told(accuracy: str, said: str) -> None:
    card = {"accuracy": accuracy, "licence": "MIT", "norm_mean": "0", "training": "natural"}
    classifier = SimpleNamespace(remarks=("a pickle",), card=card)
    start = "the weights' card says "
    data = SimpleNamespace(sha="1" * 64)
    assert _remarks(classifier, data, "games") == [  # type: ignore[arg-type]
        "a pickle",
        f"{start}training natural, licence MIT",
        f"{start}{said}",
    ]
    assert _remarks(SimpleNamespace(remarks=(), card={}), data, "games") == []  # type: ignore[arg-type]
    here = card | {"dataset": "digits", "dataset_sha": "1" * 64}
    told = _remarks(SimpleNamespace(remarks=(), card=here), data, "games")  # type: ignore[arg-type]
    assert told[-1] == f"{start}{said}"


def test_no_accuracy_is_claimed_of_other_images(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    card = {"dataset": "digits", "dataset_sha": "0" * 64, "accuracy": "0.99", "licence": "MIT"}
    save_file(load_file(PACKAGED["digits_cnn"]), path, metadata=card)
    code, said = arena("--network", "digits-cnn", "--weights", str(path), "--images", "5", "--device", "cpu")
    assert code == 0
    assert 'remark: the weights were trained on data set "digits" with sha 000000000000, not on this' in said
    assert "card says dataset digits, licence MIT" in said and "accuracy 0.99" not in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nowhere.toml",), "there is no scenario file nowhere.toml"),
        (("small.toml", "--dataset", "digits"), "--defender say what small.toml says; give either"),
        (("--dataset", "digts", "--network", "digits-cnn"), 'did you mean "digits"'),
        (("--dataset", "cifar10"), '--network: data set "cifar10" needs one to be named'),
        (("--split", "test"), 'there is no split "test"'),
        (("--split", "games+games"), "--split: found games+games; each split counts once"),
        (("--device", "gpu"), 'there is no device "gpu" here'),
        (("--defender", "snt"), 'did you mean "snd"'),
        (("--defender", "{name"), "--defender: '{name' is neither valid TOML nor valid JSON"),
        (("--network", "[1]"), "--network: found '[1]'; it must be a name or a JSON table"),
        (
            ("--network", '{"netwrk": "x"}'),
            'classifier: netwrk: there is no such key; did you mean "network"',
        ),
        (("--network", "digits-cn"), 'did you mean "digits-cnn"'),
    ],
)
def test_a_mistake_gets_a_sentence_and_no_traceback(
    scenario: Path, words: tuple[str, ...], said: str
) -> None:
    code, output = arena(*words)
    assert code == 2
    assert said in output.replace("\n", "")
    assert "Traceback" not in output


def test_splits_can_be_taken_together() -> None:
    alone = [json.loads(arena("--split", name, "--json")[1])[0] for name in ("games", "calibration")]
    both = json.loads(arena("--split", "games+calibration", "--json")[1])[0]
    assert both["images"] == alone[0]["images"] + alone[1]["images"] == 850
    right = sum(one["accuracy"] * one["images"] for one in alone)
    assert both["accuracy"] * both["images"] == pytest.approx(right)


def test_the_precision_is_told() -> None:
    code, said = arena("--device", "cpu", "--precision", "bf16", "--images", "5")
    assert code == 0 and "digits-cnn on 5 images of digits (games), cpu, bf16" in said
    found = json.loads(arena("--precision", "bf16", "--images", "5", "--json")[1])[0]
    assert found["precision"] == "bf16"
