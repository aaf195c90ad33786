"""Strangers' defenders in processes of their own: sound ones play as elsewhere, to the bit; what others try
comes to nothing, or ends the games alone that they were to defend."""

from __future__ import annotations

import gc
import os
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from arena.game.blame import DefenderError
from arena.game.shard import Job, play_shard
from arena.game.stack import Stack, prepare
from arena.isolation import children
from arena.isolation.defenders import StrangeDefender, defender_of, stack_of
from arena.isolation.sandbox import lacking
from arena.players import Attacker
from arena.players.parameters import parameters
from arena.players.registry import AgentError, build_attacker, build_stack, name_of
from arena.rules.limits import USUAL, Limits
from arena.rules.threat import Threat
from arena.scenario.files import parse_scenario
from arena.scenario.jobs import tasks
from arena.scenario.loaded_worlds import LoadedWorlds
from arena.scenario.matches import Match
from arena.scenario.prepared_stacks import PreparedStacks

pytestmark = [
    pytest.mark.skipif(lacking() is not None, reason=f"no isolation here: {lacking()}"),
    pytest.mark.usefixtures("strangers"),
]
STACKS: list[list[Any]] = [
    ["strange_defenders:Blur"],
    [{"name": "strange_defenders:Mean", "times": 2}, "snd"],
    ["strange_defenders:Counter"],
    ["snd", "strange_defenders:Counter", "strange_defenders:Blur"],
    ["strange_defenders:Unsure", "aaa-linear"],
    ["strange_defenders:Shrunk", "strange_defenders:Unsure"],
]


@pytest.fixture(scope="module")
def worlds_here() -> LoadedWorlds:
    return LoadedWorlds(Path.cwd(), (), torch.device("cpu"))


def match_of(stack: list[Any], isolation: str) -> Match:
    table = {
        "isolation": isolation,
        "games": 4,
        "shard": 5,
        "at": [3],
        "votes": 5,
        "attackers": ["square"],
        "defenders": [stack],
        "threat": {"epsilon": 0.2, "budget": 8, "objective": "submit"},
    }
    (match,) = parse_scenario(table, "strange", Path.cwd(), "strange").matches
    return match


@pytest.mark.parametrize("stack", STACKS, ids=lambda stack: "+".join(map(str, stack))[:60])
def test_a_sound_one_plays_as_in_this_process_to_the_bit(
    worlds_here: LoadedWorlds, kept: Any, tmp_path: Path, stack: list[Any]
) -> None:
    records, facts = [], []
    for isolation in ("none", "process"):
        match = match_of(stack, isolation)
        world, stacks = worlds_here.of(match), PreparedStacks(tmp_path / isolation)
        (task, *_) = tasks(match, world, stacks.prepare(match, world), "queries")
        job = task.open(world, stacks)
        facts.append([d.facts() for d in job.stack.defenders])
        records.append(kept())
        play_shard(job, records[-1])
    strange = [isinstance(d, StrangeDefender) for d in match.defenders]
    assert strange == [not isinstance(one, str) or one.startswith("strange") for one in stack]
    assert records[1].text == records[0].text
    assert "error" not in records[0].reasons
    assert facts[1] == facts[0]
    gc.collect()
    assert not forked()


def forked() -> list[str]:
    parent = str(children.nursery()._process.pid)
    found = []
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            try:
                stat = (place / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if stat[1] == parent:
                found.append(place.name)
    return found


def job(worlds: ModuleType, attacker: Attacker | None = None, *specs: Any, limits: Limits = USUAL) -> Job:
    x0 = worlds.images([(8, 6, 9, 4), (6, 8, 4, 4)])
    of = worlds.smooth()
    return Job(
        stack=Stack(of, stack_of(list(specs), limits)),
        openings=worlds.deal(x0, worlds.truth(x0, of), key=[13, 10]),
        threat=Threat(epsilon=3 / 16, budget=9, objective="submit", knowledge="detector"),
        defender_seed=4,
        votes=3,
        attacker=attacker or build_attacker("random-search"),
        attacker_seed=7,
        level="queries",
    )


@pytest.mark.parametrize("what", ["labels", "classifiers", "files"])
def test_it_finds_neither_labels_nor_classifier_nor_files(worlds: ModuleType, what: str) -> None:
    (spy,) = stack_of([{"name": "strange_defenders:Spy", "what": what}], USUAL)
    own, _ = worlds.referee((spy,), of=worlds.smooth())
    from arena.players import Volley

    answers = own.ask(Volley(own.board.x0, torch.arange(len(own.board))))
    assert answers.scores is not None
    assert bool((answers.scores[:, 0] < 0.1).all()), answers.scores


ENDS = {
    "exit": "its process ended by itself, with status 4",
    "sleep": "took longer than the 0.5 s that it may (limits.seconds)",
    "ask on": "took longer than the 0.5 s that it may (limits.seconds)",
    "raise": "ZeroDivisionError: division by zero",
    "nothing": "must answer a Response; found NoneType",
    "short": "scores must be torch.float32 [2, 3] on cpu; found torch.float32 [0, 3]",
    "double": "found torch.float64 [2, 3]",
    "list": "must ask about images [n,C,H,W]; found list",
    "no rows": "must ask about one row for each image; found NoneType",
    "fewer rows": "must ask about one row for each image; found 0",
    "half rows": "senders that are none",
    "garbage": "its process sent bytes that begin no message",
}


@pytest.mark.parametrize("deed", ENDS)
def test_one_that_breaks_the_rules_ends_its_own_games(worlds: ModuleType, kept: Any, deed: str) -> None:
    record = kept()
    limits = Limits(seconds=0.5) if deed in ("sleep", "ask on") else USUAL
    began = time.monotonic()
    play_shard(job(worlds, None, {"name": "strange_defenders:Bad", "deed": deed}, limits=limits), record)
    assert record.reasons == ["error"] * 2
    assert ENDS[deed] in record.said
    assert "strange_defenders:Bad" in record.said
    assert time.monotonic() - began < 15
    gc.collect()
    assert not forked()


def test_what_it_is_is_told_without_importing_it(strangers: Path) -> None:
    (folder := strangers.parent)
    sys.modules.pop("strange_defenders", None)
    found = defender_of({"name": "strange_defenders:Counter", "most": 4}, USUAL)
    assert isinstance(found, StrangeDefender)
    assert "strange_defenders" not in sys.modules
    assert (found.random, found.memory, found.has_detector(), found.acts) == (False, "account", True, True)
    assert parameters(found) == {"most": 4}
    assert name_of(found) == "strange_defenders:Counter"
    assert folder.is_dir()


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("strange_defenders:Rebuilt", "in its parameters and buffers alone"),
        ("strange_defenders:Nobody", 'has no "Nobody"'),
        ("strange_defenders:Posing", 'has a parameter "name"'),
        ({"name": "strange_defenders:Blur", "sigmo": 1.0}, 'did you mean "sigma"?'),
    ],
)
def test_what_cannot_be_had_is_told_in_one_sentence(spec: Any, said: str) -> None:
    with pytest.raises(AgentError) as caught:
        defender_of(spec, USUAL)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_insider_evaluates_its_detector(worlds: ModuleType) -> None:
    (counter,) = stack_of(["strange_defenders:Counter"], USUAL)
    (here,) = build_stack(["strange_defenders:Counter"])
    of, x = worlds.smooth(), worlds.images([(8, 6, 9, 4), (6, 8, 4, 4)])
    assert torch.equal(counter.detector(x, of), here.detector(x, of))


def test_a_failing_classifier_is_not_its_fault(worlds: ModuleType) -> None:
    class Broken(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("out of order")

    from arena.classifiers import Classifier
    from arena.classifiers.errors import ClassifierError
    from arena.game.stack_oracle import StackOracle
    from arena.players import Rows

    of = Classifier(Broken(), shape=(1, 2, 2), classes=3)
    oracle = StackOracle(Stack(of, stack_of(["strange_defenders:Blur"], USUAL)))
    one = torch.zeros(1, dtype=torch.int64)
    with pytest.raises(ClassifierError, match="out of order"):
        oracle.respond(torch.zeros(1, 1, 2, 2), Rows(one, one, one + 1, one, one))


def test_a_network_that_cannot_be_sent_is_told(worlds: ModuleType, worlds_here: LoadedWorlds) -> None:
    world = worlds_here.of(match_of(["none"], "none"))
    of = worlds.smooth()
    of.module.register_forward_hook(lambda *_: None)
    with pytest.raises(DefenderError, match="cannot be sent to one"):
        prepare(of, stack_of(["strange_defenders:Shrunk"], USUAL), world.dataset)
    assert os.getpid()


def test_images_that_it_cannot_defend_are_told_as_elsewhere() -> None:
    (picky,) = stack_of(["strange_defenders:Picky"], USUAL)
    assert picky.unsuited((1, 2, 2)) is None
    assert picky.unsuited((3, 8, 8)) == "colours are too much"
    (odd,) = stack_of([{"name": "strange_defenders:Picky", "said": "nonsense"}], USUAL)
    with pytest.raises(DefenderError, match="no sentence on the images"):
        odd.unsuited((3, 8, 8))
    gc.collect()
    assert not forked()
