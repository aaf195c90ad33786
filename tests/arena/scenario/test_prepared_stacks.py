"""Stacks that prepare themselves are prepared once, kept, and played as they were read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from agents.defenders.aaa.sine import AAASine
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
