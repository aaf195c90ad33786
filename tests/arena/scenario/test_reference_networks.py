"""Reference networks from a scenario file to an attacker's seat, and into a match's identity."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from arena.classifiers import ClassifierSpec, load_classifier
from arena.datasets import DatasetSpec, load_dataset
from arena.game.shard import Job, seat_attacker, seat_games
from arena.players import Attacker, Games, Needs, Play
from arena.running.identities import identity_of
from arena.scenario.errors import ScenarioError
from arena.scenario.files import parse_scenario
from arena.scenario.identity import fingerprint, modules_of, networks_of, places
from arena.scenario.jobs import ShardTask, tasks
from arena.scenario.loaded_worlds import LoadedWorld, LoadedWorlds
from arena.scenario.matches import Match
from arena.scenario.prepared_stacks import PreparedStacks


@dataclass(frozen=True)
class Leans(Attacker):
    """Asks once, one step against the first reference network's gradient."""

    needs = Needs(feedback="scores", surrogates=1)

    def play(self, games: Games) -> Play:
        x = games.x0.clone().requires_grad_(True)
        with torch.enable_grad():
            z = games.resources.surrogates[0](x)
            (slope,) = torch.autograd.grad(z.gather(1, games.label[:, None]).sum(), x)
        yield from games.ask(games.project(games.x0 - games.epsilon * slope.sign()))


DIGITS = "digits-cnn"
SHARPER: dict[str, Any] = {"network": DIGITS, "mean": 0.1, "std": 0.5}


def matches(surrogates: Any, attackers: Any = (Leans(),), **changes: Any) -> tuple[Match, ...]:
    threat = {"epsilon": 0.2, "budget": 5, "resources": {"surrogates": surrogates}}
    table = {"games": 4, "attackers": list(attackers), "defenders": ["none"], "threat": threat, **changes}
    return parse_scenario(table, "small", Path.cwd(), "small").matches


def loaded(match: Match, *folders: Path) -> LoadedWorld:
    return LoadedWorlds(Path.cwd(), folders, torch.device("cpu")).of(match)


def job_of(match: Match, world: LoadedWorld) -> Job:
    stacks = PreparedStacks()
    (task,) = tasks(match, world, stacks.prepare(match, world), "queries")
    again: ShardTask = pickle.loads(task.packed())  # as a worker gets it
    return again.open(world, stacks)


def identity(match: Match, *folders: Path) -> dict[str, Any]:
    return identity_of(match, loaded(match, *folders), "prepared", "queries")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two files of the same weights, and one of others."""
    from safetensors.torch import load_file, save_file

    from arena.classifiers.loading import PACKAGED

    folder, packed = tmp_path_factory.mktemp("weights"), load_file(PACKAGED["digits_cnn"])
    for name, factor in (("one", 1.0), ("same", 1.0), ("other", 1.01)):
        save_file({key: tensor * factor for key, tensor in packed.items()}, folder / f"{name}.safetensors")
    return folder


def test_they_reach_the_seat_as_copies_that_answer_and_differentiate() -> None:
    (match,) = matches([DIGITS, SHARPER])
    world = loaded(match)
    job = job_of(match, world)
    seat = seat_attacker(job, seat_games(job))
    first, second = seat.resources.surrogates
    data = load_dataset(DatasetSpec(name="digits"))
    for network, spec in ((first, {"network": DIGITS}), (second, SHARPER)):
        alone = load_classifier(ClassifierSpec(**spec), data)
        torch.testing.assert_close(network(seat.x0), alone(seat.x0))
        assert not network.training
    before = world.classifier(seat.x0)
    with torch.no_grad():
        for one in (first, second):
            for tensor in one.parameters():
                tensor.zero_()
    assert torch.equal(world.classifier(seat.x0), before)  # the victim itself was named
    again = seat_attacker(job, seat_games(job)).resources.surrogates
    assert bool((again[0](seat.x0) != 0).any())  # each shard has its own
    assert [one.table for one in seat.threat.resources.surrogates] == [
        {"network": DIGITS, "sha": world.surrogates[0].sha},
        {**SHARPER, "sha": world.surrogates[1].sha},
    ]
    assert len({one.sha for one in world.surrogates}) == 2


def test_a_step_against_the_victims_own_gradient_lowers_its_loss() -> None:
    from arena.game.shard import play_shard

    class Kept(list[Any]):
        record = list[Any].append

    (match,) = matches([DIGITS])
    kept = Kept()
    play_shard(job_of(match, loaded(match)), kept)
    (asked,) = [rows for piece in kept for rows in piece.queries]
    world = loaded(match)
    openings = world.openings(match, slice(0, 4))
    label, clean = openings.label, world.classifier(openings.x0)
    own = clean.gather(1, label[:, None]).squeeze(1) - clean.scatter(1, label[:, None], -torch.inf).amax(1)
    assert (torch.from_numpy(asked.margin) < own).all()


def test_who_needs_none_is_given_none_and_plays_as_if_none_were_there() -> None:
    square, leans = matches([DIGITS], ["square", Leans()])
    (plain,) = matches([], ["square"])
    assert square.threat == plain.threat and square.threat.known == "none"
    assert leans.threat.known == "surrogates"
    assert fingerprint(identity(square)) == fingerprint(identity(plain))
    assert job_of(square, loaded(square)).resources.surrogates == ()  # type: ignore[union-attr]
    assert "surrogates" not in str(square.describe())


def test_identity_goes_by_content_and_not_by_place(weights: Path) -> None:
    def named(name: str) -> Match:
        return matches([{"network": DIGITS, "weights": f"{name}.safetensors"}])[0]

    one, same, other = (identity(named(name), weights) for name in ("one", "same", "other"))
    assert one == same and fingerprint(one) != fingerprint(other)
    assert {k for k in one if one[k] != other[k]} == {"surrogate_shas"}
    assert "one.safetensors" not in str(one)
    assert places(named("one"))["surrogates"] == ["one.safetensors"]
    twice = identity(matches([DIGITS, DIGITS])[0])
    assert fingerprint(twice) != fingerprint(identity(matches([DIGITS])[0]))


@pytest.mark.parametrize(
    ("surrogates", "said"),
    [
        (["nope"], 'small: threat: resources.surrogates: 1: there is no network "nope"'),
        ([DIGITS, "resnet20"], "resources.surrogates: 2: .*needs weights"),
        ([{"network": DIGITS, "weights": "absent.safetensors"}], "surrogates: 1: .*absent.safetensors"),
        ([{**SHARPER, "precision": "bf16"}], "surrogates: 1: .*float32"),
        ([{"network": DIGITS, "sha": "0" * 12}], "surrogates: 1: .*not the one that was pinned"),
        ([{"network": DIGITS, "params": {"classes": 12}}], "surrogates: 1: "),
    ],
)
def test_what_cannot_be_granted_is_said(surrogates: Any, said: str) -> None:
    with pytest.raises(ScenarioError, match=said):
        loaded(matches(surrogates)[0])


@pytest.mark.parametrize(
    ("surrogates", "said"),
    [
        ("digits-cnn", "small: threat.resources.surrogates: a list of networks; found 'digits-cnn'"),
        ([7], "small: threat.resources.surrogates.0: a network's name, or a table .*; found 7"),
        ([{"weights": "w"}], "this key is missing"),
        ([{"network": DIGITS, "wights": "w"}], "surrogates: 1: wights: there is no such key; did you mean"),
        ([], ":Leans cannot play this threat: it needs a reference network; the threat grants none"),
    ],
)
def test_a_file_that_names_them_wrongly_is_refused_before_anything_is_loaded(
    surrogates: Any, said: str
) -> None:
    with pytest.raises(ScenarioError, match=said):
        matches(surrogates)


def test_in_processes_of_their_own_attackers_get_none_that_is_a_users_code() -> None:
    from arena.isolation.sandbox import lacking

    if lacking() is not None:
        pytest.skip("no isolation here")
    with pytest.raises(ScenarioError, match='surrogates: 1: network "mine:Net" cannot be handed'):
        matches(["mine:Net"], ["prior-rgf"], isolation="process")
    matches(["mine:Net"], ["square"], isolation="process")


def test_functions_among_them_must_be_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "made_reference.py").write_text(
        "import torch\n"
        "def small():\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    (match,) = matches(["made_reference:small"])
    with pytest.raises(ScenarioError, match=r"surrogates: 1: .*add --trust made_reference:small"):
        loaded(match)
    world = LoadedWorlds(Path.cwd(), (), torch.device("cpu"), ["made_reference:small"]).of(match)
    assert world.surrogates[0](torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    assert networks_of(match) == [DIGITS, "made_reference:small"]
    assert "made_reference" in modules_of(match)
