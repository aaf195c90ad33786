"""Attackers in processes of their own: honest ones play as elsewhere, to the bit; what cheats try comes to
nothing, or ends their own games alone."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

import arena
from arena.game.shard import Job, play_shard, seed_of
from arena.game.stack import Stack
from arena.isolation import children
from arena.isolation.attackers import IsolatedAttacker
from arena.isolation.sandbox import lacking
from arena.players import Attacker, Defender, Rows
from arena.rules.limits import Limits
from arena.rules.threat import Threat

pytestmark = pytest.mark.skipif(lacking() is not None, reason=f"no isolation here: {lacking()}")


@pytest.fixture(scope="module")
def cheats(strangers: Path) -> ModuleType:
    """The module of the planted cheats, found as a user's own module is."""
    import cheats  # type: ignore[import-not-found]

    found: ModuleType = cheats
    return found


def apart(attacker: Attacker, limits: Limits | None = None) -> IsolatedAttacker:
    return IsolatedAttacker(attacker, (type(attacker).__module__,), limits or Limits(seconds=20.0))


def job(worlds: ModuleType, attacker: Attacker, **changes: Any) -> Job:
    x0 = worlds.images([(8, 6, 9, 4), (6, 8, 4, 4), (9, 7, 4, 8)])
    of = worlds.classifier()
    told = {
        "stack": Stack(of, (worlds.Noise(0.1), worlds.warden("account"))),
        "openings": worlds.deal(x0, worlds.truth(x0, of), key=[13, 10, 11]),
        "threat": Threat(epsilon=3 / 16, budget=30, objective="submit"),
        "defender_seed": 4,
        "at": (3,),
        "votes": 5,
        "attacker": attacker,
        "attacker_seed": 7,
        **changes,
    }
    return Job(**told)


@pytest.fixture(scope="module")
def played(worlds: ModuleType, kept: Any) -> Callable[..., Any]:
    """Plays a shard; what was recorded of it."""

    def play(attacker: Attacker, **changes: Any) -> Any:
        record = kept()
        play_shard(job(worlds, attacker, **changes), record)
        return record

    return play


def forked() -> list[int]:
    """The processes that were forked from the nursery, or are left of those that it forked."""
    parent = children.nursery()._process.pid
    found = []
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            try:
                stat = (place / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(stat[1]) == parent:
                found.append(int(place.name))
    return found


def test_an_honest_attacker_plays_as_in_this_process_to_the_bit(
    cheats: ModuleType, played: Callable[..., Any]
) -> None:
    here = played(cheats.Honest())
    there = played(apart(cheats.Honest()))
    assert there.text == here.text
    assert "error" not in here.reasons
    assert len(here.notes("step")) == 4
    assert not forked()


def test_what_is_malformed_is_told_in_the_same_words(
    worlds: ModuleType, cheats: ModuleType, played: Callable[..., Any]
) -> None:
    stack = Stack(worlds.classifier())
    here = played(cheats.Malformed(), stack=stack)
    there = played(apart(cheats.Malformed()), stack=stack)
    assert there.text == here.text
    assert len(here.notes("25")) == 1, here.notes("error")
    assert not [n for n in range(26) if here.notes(str(n)) == ["taken"]]


@pytest.fixture(scope="module")
def came_of(
    cheats: ModuleType, tmp_path_factory: pytest.TempPathFactory, played: Callable[..., Any]
) -> Iterator[Any]:
    """What came of each attempt of the prober: by name."""
    folder = tmp_path_factory.mktemp("secrets")
    (folder / "seed.txt").write_text("a secret seed")
    weights = next((Path(arena.__file__).parent / "classifiers" / "weights").glob("*.safetensors"))
    files = [folder / "seed.txt", weights, Path("/etc/passwd"), Path(f"/proc/{os.getpid()}/environ")]
    prober = cheats.Prober(tuple(map(str, files)), str(folder), os.getpid())
    kept = played(apart(prober), limits=Limits(notes=10**6))
    assert "error" not in kept.reasons, kept.notes("error")
    yield {
        "folder": folder,
        "weights file": weights.name,
        **{rows.key: rows.value[0] for piece in kept.pieces for rows in piece.notes},
    }


def test_no_file_is_read_but_its_own_and_python_s(came_of: Any) -> None:
    for name in ("seed.txt", "passwd", "environ", came_of["weights file"]):
        assert came_of[f"read {name}"].startswith("PermissionError"), name
    for name in ("list", "command", "memory of another", "own memory", "data"):
        assert came_of[name].startswith("PermissionError"), came_of[name]
    assert came_of["environment"] == "done: {}"


def test_nothing_is_written_anywhere(came_of: Any) -> None:
    for name in ("write", "write here", "write memory", "truncate", "memfd"):
        assert came_of[name].startswith("PermissionError"), name
    assert [path.name for path in came_of["folder"].iterdir()] == ["seed.txt"]


def test_no_network_no_process_no_signal_to_others(came_of: Any) -> None:
    denied = (
        *("socket", "unix socket", "fork", "daemon", "run", "replace"),
        *("kill", "kill parent", "kill all", "unbind", "process_vm_readv", "ptrace", "pidfd_open"),
    )
    for name in denied:
        assert came_of[name].startswith("PermissionError"), name
    assert came_of["unlimited"] == "ValueError: not allowed to raise maximum limit"


def test_neither_classifier_nor_defender_nor_another_agent_is_in_its_process(came_of: Any) -> None:
    assert came_of["classifiers"] == "done: []"
    assert came_of["modules"] == "done: []"
    assert came_of["other agent"].startswith("ModuleNotFoundError")
    assert came_of["loader"] == "done: 'arena.classifiers'"  # its code is public; the weights cannot be read
    assert came_of["descriptors"] == "done: [0, 1, 2, 3]"


def test_it_may_use_threads(came_of: Any) -> None:
    assert came_of["thread"] == "done: 'in a thread'"


ENDS = {
    "exit": "ended by itself, with status 3",
    "exit 0": "ended by itself, with status 0",
    "crash": "SIGSEGV",
    "print": "printed more than the 100,000 bytes",
    "memory": "memory",
    "threads": "thread",
    "close": "during a move",
    "garbage": "bytes that begin no message",
    "huge header": "a header of 4,294,967,295 bytes",
    "huge body": "a body of 1,152,921,504,606,846,976 bytes",
    "no json": "a message whose header cannot be read",
    "deep json": "a message whose header cannot be read",
    "no move": "none of a move",
    "no fields": "a Volley without its fields",
    "huge tensor": "where its header names",
    "negative tensor": "a tensor whose shape is none",
    "pickle": "bytes that begin no message",
    "pickle in a tensor": "a Note without its fields",
    "chatter": "a Volley without its fields",
    "failed": "ValueError: no more (cheats.py:",
    "leave": "SystemExit: 0 (cheats.py:",
}
LATE = ("stop", "sleep", "compute", "half")


@pytest.mark.parametrize("deed", [*ENDS, *LATE])
def test_whoever_breaks_the_rules_ends_its_own_games(
    cheats: ModuleType, deed: str, played: Callable[..., Any]
) -> None:
    seconds = 0.5 if deed in LATE else 20.0
    limits = Limits(seconds=seconds, memory=200.0, output=100_000)
    began = time.monotonic()
    kept = played(apart(cheats.Ender(deed), limits))
    took = time.monotonic() - began
    assert kept.reasons == ["error"] * 3
    assert ENDS.get(deed, "took longer than the 0.5 s that it may (limits.seconds)") in kept.said
    assert [rows.purpose for piece in kept.pieces for rows in piece.queries] == ["first"]
    assert not forked()
    assert took < 15
    assert not Path("/tmp/unpickled-by-arena").exists()


def test_a_neighbour_is_not_disturbed(cheats: ModuleType, played: Callable[..., Any]) -> None:
    before = played(apart(cheats.Honest())).text
    for deed in ("exit", "pickle"):
        played(apart(cheats.Ender(deed)))
        assert played(apart(cheats.Honest())).text == before


@dataclass(frozen=True)
class ScoreNoise(Defender):
    """Adds keyed noise to the scores."""

    random: ClassVar[bool] = True

    def rewrite(self, scores: Tensor, rows: Rows) -> Tensor:
        return scores + 0.1 * rows.normal(scores.shape[1:])


def test_a_public_seed_gives_the_noise_away_and_a_secret_one_does_not(
    worlds: ModuleType, cheats: ModuleType, played: Callable[..., Any]
) -> None:
    def found(defender_seed: int) -> str:
        seeds = {"attacker_seed": seed_of("attacker", 12, 0), "defender_seed": defender_seed}
        stack = Stack(worlds.smooth(), (ScoreNoise(),))
        (said,) = played(apart(cheats.SeedReader(50)), stack=stack, **seeds).notes("found")
        return str(said)

    assert found(seed_of("defender", 12, 0)) == "the noise, by seed 12"
    assert found(seed_of("defender", 2**62 + 1729, 0)) == "nothing"


def test_a_seat_holds_no_seed_but_the_attacker_s_own(
    worlds: ModuleType, cheats: ModuleType, kept: Any
) -> None:
    from arena.game.shard import seat_attacker, seat_games
    from arena.isolation.moves import written_seat
    from arena.records.pieces import Pieces

    secret = 5_432_109_876_543_210
    own = job(worlds, cheats.Honest(), defender_seed=secret, threat=Threat(epsilon=0.2, budget=9))
    message = written_seat(seat_attacker(own, seat_games(own, Pieces(kept()))))
    assert message.values["seed"] == 7
    assert str(secret) not in repr(message.values)
    assert not [t for t in message.tensors if t.dtype == torch.int64 and bool((t == secret).any())]


def test_images_for_known_numbers_are_of_no_use_once_numbers_are_others(
    worlds: ModuleType, cheats: ModuleType, played: Callable[..., Any]
) -> None:
    def known(key: list[int]) -> float:
        x0 = worlds.images([(8, 6, 9, 4)])
        deal = worlds.deal(x0, worlds.truth(x0, worlds.classifier()), key=key)
        return float(played(apart(cheats.NumberReader((13,))), openings=deal).notes("known")[0])

    assert known([13]) == 1
    assert known([8_301_412_650]) == 0


def test_what_cannot_be_sent_is_told(worlds: ModuleType, played: Callable[..., Any]) -> None:
    kept = played(apart(worlds.Scripted(lambda games: iter(()))))
    assert "it cannot be sent to a process of its own" in kept.said


def test_reference_networks_reach_its_process_and_compute_as_here(
    worlds: ModuleType, played: Callable[..., Any]
) -> None:
    from arena.classifiers import Classifier, ClassifierSpec, load_classifier
    from arena.classifiers.surrogates import surrogate_of
    from arena.datasets import DatasetSpec, load_dataset
    from arena.game.openings import Openings
    from arena.players.registry import build_attacker
    from arena.players.seat import Resources

    data = load_dataset(DatasetSpec(name="digits"))
    victim = load_classifier(ClassifierSpec(network="digits-cnn"), data)
    other = load_classifier(ClassifierSpec(network="digits-cnn", mean=(0.1,), std=(0.7,)), data)
    split, places = data.games, torch.arange(3)
    table = {
        "stack": Stack(Classifier.of(victim, sample=split.take(places)), ()),
        "openings": Openings(split.take(places), split.labels[places], split.index[places]),
        "resources": Resources(surrogates=(surrogate_of(other, victim),)),
        "threat": Threat(epsilon=0.1, budget=12, resources={"surrogates": ["digits-cnn"]}),  # type: ignore[arg-type]
        "at": (),
        "votes": 1,
    }
    attacker = build_attacker("subspace")
    here, there = played(attacker, **table), played(apart(attacker), **table)
    assert "error" not in here.reasons
    assert there.text == here.text


def test_one_that_cannot_be_sent_is_told(worlds: ModuleType, played: Callable[..., Any]) -> None:
    from arena.players.registry import build_attacker
    from arena.players.seat import Resources

    class Local(torch.nn.Module):
        """Its class is none of a module's."""

        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, :2]

    record = played(apart(build_attacker("subspace")), resources=Resources(surrogates=(Local(),)))
    assert "its reference network cannot be sent to a process of its own" in record.said
