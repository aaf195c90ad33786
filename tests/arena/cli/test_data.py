"""`arena data` as a user types it; what it downloads is tested with the downloads."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from arena.cli import data as command
from arena.cli.app import app
from arena.datasets import DATASETS


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("ARENA_DATA", raising=False)


def arena(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["data", *words], catch_exceptions=False)
    return result.exit_code, result.output


def lines(said: str) -> dict[str, str]:
    return {line.split()[1]: " ".join(line.split()) for line in said.splitlines()[:-1]}


def test_all_data_sets_are_listed_with_where_they_lie(tmp_path: Path) -> None:
    (tmp_path / "named" / "cifar-10-batches-bin").mkdir(parents=True)
    code, said = arena("--data", str(tmp_path / "named"))
    assert code == 0
    told = lines(said)
    assert list(told) == list(DATASETS)
    assert told["cifar10"] == f"yes cifar10 {tmp_path}/named/cifar-10-batches-bin"
    assert told["digits"] == "yes digits comes with scikit-learn"
    assert told["npz"].startswith("own npz by its path: the .npz file, with keys x and y")
    assert told["mnist"].startswith("no mnist not found: arena data get mnist; or put there a folder mnist")
    assert told["imagenet"].startswith("no imagenet not found: put a folder imagenet there")
    assert said.splitlines()[-1] == f"looked in {tmp_path}/named, {tmp_path}/here, {tmp_path}/cache/arena"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("digits", "error: digits come with scikit-learn; there is nothing to get"),
        (
            "npz",
            'error: npz is a file of your own; name it in the scenario: dataset = { name = "npz", path =',
        ),
        (
            "imagenet",
            "error: imagenet is given out by its owners alone (image-net.org, or its challenge on Kaggle)",
        ),
        ("mnisst", 'error: there is no data set "mnisst"; did you mean "mnist"? allowed: cifar10, digits'),
    ],
)
def test_what_cannot_be_got_says_why(name: str, told: str) -> None:
    code, said = arena("get", name)
    assert code == 2
    assert said.startswith(told)
    assert said.count("\n") == 1


@pytest.mark.parametrize("to", [None, "elsewhere"])
def test_get_says_where_it_put_it(to: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(name: str, folder: Path, bar: object) -> Path:
        (folder / name).mkdir(parents=True)
        return folder / name

    monkeypatch.setattr(command, "fetch", fetch)
    folder = tmp_path / "cache" / "arena" if to is None else tmp_path / "here" / to
    words = ("get", "mnist") if to is None else ("get", "mnist", "--to", to)
    code, said = arena(*words)
    assert code == 0
    assert f"mnist: {folder}/mnist\n" in said
    hint = f"to be found there, say --data {folder} or set ARENA_DATA={folder}\n"
    assert said.endswith(hint) == (to is not None)
    assert arena(*words) == (0, f"mnist is in {folder}/mnist already; remove it to fetch it again\n")


def test_without_a_network_the_sentence_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # the port of "discard": nobody listens
    monkeypatch.setenv("NO_PROXY", "")
    code, said = arena("get", "cifar10", "--to", str(tmp_path / "to"))
    assert code == 2
    told = said.splitlines()[-1]
    assert told.startswith('error: data set "cifar10": cifar-10-binary.tar.gz could not be fetched (')
    assert told.endswith(f"cifar-10-binary.tar.gz and unpack it in {tmp_path}/to")
    assert not list((tmp_path / "to").iterdir())
