"""Stacks that prepare themselves are prepared once, kept, and played as they were read back."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from agents.defenders.aaa.sine import AAASine
from arena.classifiers import Classifier
from arena.game.blame import DefenderError
from arena.players import Splits
from arena.scenario.errors import ScenarioError
from arena.scenario.files import parse_scenario
from arena.scenario.loaded_worlds import LoadedWorld, LoadedWorlds
from arena.scenario.matches import Match
from arena.scenario.prepared_stacks import PreparedStacks, preparing_key


def ready(**changes: Any) -> tuple[Match, LoadedWorld]:
    table = {"games": 3, "attackers": ["square"], "threat": {"epsilon": 0.2, "budget": 4}, **changes}
    (match,) = parse_scenario(table, "small", Path.cwd(), "small").matches
    return match, LoadedWorlds(Path.cwd(), (), torch.device("cpu")).of(match)


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every fit of AAA-sine leaves a line."""
    made: list[str] = []
    fit = AAASine.fit

    def counted(self: AAASine, *args: Any) -> AAASine:
        made.append(type(self).__name__)
        return fit(self, *args)

    monkeypatch.setattr(AAASine, "fit", counted)
    return made


def test_what_was_prepared_is_found_by_other_runs(tmp_path: Path, fits: list[str]) -> None:
    match, world = ready(defenders=["aaa-sine"])
    sha = PreparedStacks(tmp_path).prepare(match, world)
    again = PreparedStacks(tmp_path)
    assert again.prepare(match, world) == sha
    assert fits == ["AAASine"]
    stack = again.load(sha, match, world)
    assert again.load(sha, match, world) is stack
    assert stack.defenders[0].facts()["temperature"] > 0
    assert fits == ["AAASine"]
    other, _ = ready(defenders=[{"name": "aaa-sine", "alpha": 0.5}])
    assert again.prepare(other, world) != sha
    assert len(fits) == 2


def test_the_key_tells_what_goes_into_preparing_and_no_more() -> None:
    match, world = ready(defenders=["aaa-sine"])
    key = preparing_key(match, world)
    assert preparing_key(ready(defenders=["aaa-sine"], games=2, attackers=["random-search"])[0], world) == key
    keys = {key, preparing_key(ready(defenders=[{"name": "aaa-sine", "tau": 5.0}])[0], world)}
    keys.add(preparing_key(ready(defenders=["aaa-linear"])[0], world))
    batch, world.classifier.batch = world.classifier.batch, 8
    keys.add(preparing_key(match, world))
    world.classifier.batch = batch
    assert len(keys) == 4


def test_another_content_of_a_file_that_a_defender_reads_is_another_stack(tmp_path: Path) -> None:
    file = tmp_path / "own.safetensors"
    match, world = ready(defenders=[{"name": "trades", "weights": str(file)}])
    with pytest.raises(
        DefenderError, match=r"Trades.files failed with FileNotFoundError: weights: there is no"
    ):
        preparing_key(match, world)
    assert not PreparedStacks(tmp_path).is_prepared(match, world)
    keys = set()
    for content in (b"one", b"two", b"one"):
        file.write_bytes(content)
        keys.add(preparing_key(match, world))
    assert len(keys) == 2


def test_nothing_is_written_of_what_prepares_nothing(tmp_path: Path) -> None:
    match, world = ready(defenders=[{"name": "snd", "sigma": 0.1}])
    stacks = PreparedStacks(tmp_path / "none")
    stack = stacks.load(stacks.prepare(match, world), match, world)
    assert stack.defenders == match.defenders
    assert not (tmp_path / "none").exists()


def test_a_damaged_file_is_told_of_and_prepared_anew_when_it_is_deleted(
    tmp_path: Path, fits: list[str]
) -> None:
    match, world = ready(defenders=["aaa-sine"])
    sha = PreparedStacks(tmp_path).prepare(match, world)
    file = tmp_path / f"{sha}.safetensors"
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(ScenarioError, match=r"^small: aaa-sine: prepared stack .* is cut short"):
        PreparedStacks(tmp_path).load(sha, match, world)
    file.unlink()
    assert PreparedStacks(tmp_path).prepare(match, world) == sha
    assert len(fits) == 2


def test_a_folder_that_cannot_be_written_is_told_of(tmp_path: Path) -> None:
    match, world = ready(defenders=["aaa-sine"])
    (tmp_path / "file").write_text("")
    with pytest.raises(ScenarioError, match=r"^small: aaa-sine: "):
        PreparedStacks(tmp_path / "file").prepare(match, world)


class Spoils(AAASine):
    """Writes into the labels and the images that it gets, and into the weights where `kappa` is 0."""

    def fit(self, classifier: Classifier, splits: Splits) -> AAASine:
        for part in (splits.train, splits.calibration):
            part.labels.zero_()
            part.source.zero_()  # type: ignore[attr-defined]
        if self.kappa == 0:
            for tensor in classifier.tensors().values():
                tensor.zero_()
        return self


@pytest.mark.parametrize("kappa", [0, 1])
def test_who_writes_as_it_prepares_itself_leaves_the_match_beside_it_alone(
    tmp_path: Path, kappa: int
) -> None:
    match, world = ready(defenders=["none"])
    spoilt = replace(match, defenders=(Spoils(kappa=kappa),))
    x = world.openings(match, slice(0, 3)).x0
    labels, logits, sha = world.dataset.games.labels.clone(), world.classifier(x), world.dataset.sha
    stacks = PreparedStacks(tmp_path)
    with pytest.raises(DefenderError, match="changed the weights") if kappa == 0 else nullcontext():
        stacks.prepare(spoilt, world)
    assert torch.equal(world.openings(match, slice(0, 3)).x0, x)
    assert torch.equal(world.dataset.games.labels, labels) and replace(world.dataset).sha == sha
    assert torch.equal(world.classifier(x), logits)
    assert world.classifier.sha == ready(defenders=["none"])[1].classifier.sha
