"""A prepared stack on disk: what is read back plays as what was written; what is damaged is told of."""

from __future__ import annotations

import copy
import hashlib
import math
import multiprocessing
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from agents.attackers.score.random_search import RandomSearch
from agents.defenders.aaa.linear import AAALinear
from agents.defenders.aaa.sine import AAASine
from agents.defenders.disagreement import Disagreement
from agents.defenders.none import NoDefense
from agents.defenders.predcoin.alternate import PredCoinAlternate
from agents.defenders.predcoin.per_class import PredCoinPerClass
from agents.defenders.predcoin.predcoin import PredCoin
from agents.defenders.snd import SND
from arena.classifiers import Classifier
from arena.conformance.tiny_worlds import TinyWorld, tiny_world
from arena.game.blame import DefenderError
from arena.game.openings import Openings
from arena.game.prepared import PreparedError, PreparedStore, prepared_sha, read, written
from arena.game.referee import Referee
from arena.game.shard import play_games
from arena.game.stack import Stack, prepare
from arena.game.stack_oracle import StackOracle
from arena.players import Defender, Rows, Splits
from arena.records.reports import MemoryListener
from arena.rules.threat import Threat

GAMES = 6
SMALL: dict[str, Any] = {"gamma": 0.1, "images": 12}


@pytest.fixture(scope="module")
def world() -> TinyWorld:
    return tiny_world(1, "cpu")


@dataclass(frozen=True)
class Scaled(Defender):
    """Hardens by other weights, in an order of memory of their own."""

    factor: float = 0.5

    def harden(self, classifier: Classifier, splits: Splits) -> Classifier:
        tensors = classifier.tensors()
        turned = tensors["first"].t().contiguous().t()
        changed = {**tensors, "first": turned, "scale": tensors["scale"] * self.factor}
        hardened = classifier.with_tensors(changed)
        return hardened.with_settings({**hardened.settings(), "name": "scaled", "batch": 3})


class Widened(nn.Module):
    weight: Tensor

    def __init__(self, inner: nn.Module, weight: Tensor) -> None:
        super().__init__()
        self.inner = inner
        self.register_buffer("weight", weight, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.inner(x)
        return logits * self.weight


@dataclass(frozen=True)
class Wide(Defender):
    """Hardens into a network of another form."""

    def harden(self, classifier: Classifier, splits: Splits) -> Classifier:
        return self._around(classifier, torch.linspace(0.5, 1.5, classifier.classes))

    def rebuild(self, classifier: Classifier, tensors: Mapping[str, Tensor]) -> Classifier:
        return self._around(classifier, tensors["weight"])

    def _around(self, classifier: Classifier, weight: Tensor) -> Classifier:
        module = Widened(classifier.module, weight)
        return Classifier(module, shape=classifier.shape, classes=classifier.classes)


@dataclass(frozen=True)
class WideInSilence(Wide):
    def rebuild(self, classifier: Classifier, tensors: Mapping[str, Tensor]) -> Classifier:
        return Defender.rebuild(self, classifier, tensors)


@dataclass(frozen=True)
class Found(Defender):
    """Finds whatever it is given."""

    found: Any = None
    _state: dict[str, Any] = field(default_factory=dict, init=False, compare=False)

    random: ClassVar[bool] = False

    def fit(self, classifier: Classifier, splits: Splits) -> Self:
        return self.restore({"found": self.found}, classifier)

    def state(self) -> dict[str, Any]:
        return self._state

    def facts(self) -> dict[str, Any]:
        return self._state

    def restore(self, state: Mapping[str, Any], classifier: Classifier) -> Self:
        fitted = copy.copy(self)
        object.__setattr__(fitted, "_state", dict(state))
        return fitted

    def rewrite(self, scores: Tensor, rows: Rows) -> Tensor:
        return scores


def transcript(stack: Stack, world: TinyWorld) -> list[tuple[str, bytes]]:
    """All that a match against `stack` reports of its queries and games, as bytes."""
    split = world.split("games", GAMES)
    threat = Threat(epsilon=0.2, budget=12, feedback="logits", objective="minimum")
    record = MemoryListener()
    oracle = StackOracle(stack, seed=5, games=GAMES)
    openings = Openings(split.images, split.labels, split.index)
    referee = Referee(oracle, openings, threat, listener=record)
    rows = play_games(RandomSearch(mu=0.1), referee, referee.seat())
    return [
        (f.name, np.asarray(getattr(one, f.name)).tobytes())
        for one in (*record.query_rows, rows)
        for f in fields(one)
    ]


STACKS: dict[str, tuple[Defender, ...]] = {
    "nothing": (),
    "none": (NoDefense(),),
    "predcoin": (PredCoin(**SMALL),),
    "per class": (PredCoinPerClass(**SMALL),),
    "alternate": (PredCoinAlternate(**SMALL),),
    "aaa": (AAALinear(kappa=10),),
    "monitor": (Disagreement(), SND(sigma=0.05)),
    "hardened": (Scaled(),),
    "several": (Disagreement(), AAASine(kappa=10), Wide(), PredCoin(**SMALL), Scaled(), SND(sigma=0.01)),
}


FLAGGING = {"predcoin", "per class", "alternate", "monitor", "several"}


@pytest.mark.parametrize("name", STACKS)
def test_what_is_read_back_plays_as_what_was_prepared(name: str, world: TinyWorld, tmp_path: Path) -> None:
    defenders = STACKS[name]
    stack = prepare(world.classifier, defenders, world)
    store = PreparedStore(tmp_path)
    sha = store.keep("key", stack)
    assert sha == prepared_sha(stack)
    again = store.load(sha, copy.deepcopy(world.classifier), copy.deepcopy(defenders))
    played = transcript(stack, world)
    assert len(played) > 12 * 10
    assert any(any(flags) for column, flags in played if column == "flagged") == (name in FLAGGING)
    assert transcript(again, world) == played
    assert [d.facts() for d in again.defenders] == [d.facts() for d in stack.defenders]
    for attribute in ("name", "batch", "precision", "sha", "shape", "classes"):
        assert getattr(again.base, attribute) == getattr(stack.base, attribute)
    assert prepared_sha(again) == sha


def test_hardened_weights_lie_in_memory_as_they_did(world: TinyWorld) -> None:
    stack = prepare(world.classifier, [Scaled()], world)
    again = read(written(stack), world.classifier, [Scaled()])
    one, other = (s.base.tensors()["first"] for s in (stack, again))
    assert not one.is_contiguous()
    assert one.stride() == other.stride()
    assert again.hardened == (again.base,)
    assert again.base is not world.classifier


def test_one_of_the_stacks_plays_otherwise_than_another(world: TinyWorld) -> None:
    plain, scaled = (prepare(world.classifier, STACKS[name], world) for name in ("none", "hardened"))
    assert transcript(plain, world) != transcript(scaled, world)
    assert prepared_sha(plain) != prepared_sha(scaled)


@pytest.mark.parametrize(
    "found",
    [
        [math.inf, -math.inf, -0.0, 5e-324, 0.1, 2**80, -7, True, None, "ä\ud800\0", [], {}],
        {"a": {"b": [1, {"c": 2.5}]}},
        torch.tensor([math.nan, -0.0, math.inf, 1e-45]),
        torch.tensor(7, dtype=torch.int64),
        torch.zeros(0, 3),
        torch.tensor([True, False]),
        torch.arange(24, dtype=torch.bfloat16).view(2, 3, 2, 2).to(memory_format=torch.channels_last),
        torch.arange(6.0).view(2, 3).t(),
        torch.ones(1, dtype=torch.float64).expand(3, 4),
    ],
    ids=str,
)
def test_what_was_found_comes_back_as_it_was(found: Any, world: TinyWorld) -> None:
    defender = Found()
    stack = Stack(world.classifier, (defender.restore({"found": found}, world.classifier),))
    again = read(written(stack), world.classifier, [defender]).defenders[0].state()["found"]
    if not isinstance(found, Tensor):
        assert repr(again) == repr(found)  # which tells -0.0 from 0.0 and True from 1
        return
    assert (again.dtype, again.shape, again.device) == (found.dtype, found.shape, found.device)
    assert (
        again.contiguous().view(torch.uint8).equal(found.contiguous().view(torch.uint8))
        if found.dim()
        else again.equal(found)
    )
    if 0 not in found.stride():
        assert again.stride() == found.stride()


def test_nan_and_infinity_survive_in_facts(world: TinyWorld, tmp_path: Path) -> None:
    store = PreparedStore(tmp_path)
    defender = Found([math.nan, math.inf])
    sha = store.keep("k", prepare(world.classifier, [defender], world))
    (again,) = store.load(sha, world.classifier, [defender]).defenders
    assert math.isnan(again.facts()["found"][0])
    assert again.facts()["found"][1] == math.inf


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        ((1,), r"Found.state\(\)\['found'\] must be a tensor or a JSON value .*; found tuple"),
        ([np.int64(3)], r"Found.state\(\)\['found'\]\[0\] must be .*; found int64"),
        ({1: 2}, r"the keys of Found.state\(\)\['found'\] must be texts; found 1"),
        ([torch.zeros(1)], r"\['found'\]\[0\] must be .*; found Tensor"),
        (torch.zeros(2).to_sparse(), "cannot be written"),
    ],
    ids=str,
)
def test_what_json_does_not_give_back_is_refused(found: Any, sentence: str, world: TinyWorld) -> None:
    stack = Stack(world.classifier, (Found().restore({"found": found}, world.classifier),))
    with pytest.raises(PreparedError, match=sentence):
        written(stack)


def test_the_file_is_of_safetensors_and_named_by_its_content(world: TinyWorld, tmp_path: Path) -> None:
    store = PreparedStore(tmp_path / "new" / "folder")
    stack = prepare(world.classifier, [Scaled()], world)
    sha = store.keep("a key / with anything", stack)
    files = {path.suffix: path for path in (tmp_path / "new" / "folder").iterdir()}
    assert sorted(files) == [".key", ".safetensors"]
    assert files[".safetensors"].stem == hashlib.sha256(files[".safetensors"].read_bytes()).hexdigest() == sha
    tensors = safetensors.torch.load_file(files[".safetensors"])
    assert torch.equal(tensors["0 hardened first"], stack.base.tensors()["first"])


def test_the_first_stack_under_a_key_stays(world: TinyWorld, tmp_path: Path) -> None:
    store = PreparedStore(tmp_path)
    stacks = [prepare(world.classifier, [Found(n)], world) for n in range(3)]
    assert store.find("one") is None
    first = store.keep("one", stacks[0])
    assert store.keep("one", stacks[1]) == first == store.find("one") == prepared_sha(stacks[0])
    assert store.keep("two", stacks[2]) == store.find("two") == prepared_sha(stacks[2]) != first
    assert PreparedStore(tmp_path).find("one") == first


def test_where_a_file_system_has_no_hard_links_keys_are_kept_too(
    world: TinyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    store = PreparedStore(tmp_path)
    sha = store.keep("k", prepare(world.classifier, [Found(1)], world))
    assert store.find("k") == sha
    assert store.keep("k", prepare(world.classifier, [Found(2)], world)) == sha


def damage(content: bytes, how: str) -> bytes:
    if how == "cut short":
        return content[:-5]
    if how == "empty":
        return b""
    place = 8 if how == "header" else len(content) - 3
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize("how", ["cut short", "empty", "header", "tensor"])
def test_a_damaged_file_is_told_of_and_prepared_anew(how: str, world: TinyWorld, tmp_path: Path) -> None:
    store, defenders = PreparedStore(tmp_path), [Scaled()]
    stack = prepare(world.classifier, defenders, world)
    sha = store.keep("k", stack)
    (path,) = tmp_path.glob("*.safetensors")
    path.write_bytes(damage(path.read_bytes(), how))
    with pytest.raises(PreparedError, match=r"is cut short or was changed: .*; delete the file"):
        store.load(sha, world.classifier, defenders)
    path.unlink()
    assert store.find("k") is None
    with pytest.raises(PreparedError, match=f"there is no prepared stack {sha}"):
        store.load(sha, world.classifier, defenders)
    assert store.keep("k", stack) == sha == store.find("k")
    assert transcript(store.load(sha, world.classifier, defenders), world) == transcript(stack, world)


@pytest.mark.parametrize("text", ["", "nonsense", "0" * 63, "\xff" * 64])
def test_a_damaged_key_is_as_none(text: str, world: TinyWorld, tmp_path: Path) -> None:
    store = PreparedStore(tmp_path)
    stack = prepare(world.classifier, [NoDefense()], world)
    sha = store.keep("k", stack)
    (path,) = tmp_path.glob("*.key")
    path.write_text(text, encoding="latin-1")
    assert store.find("k") is None
    assert store.keep("k", stack) == sha == store.find("k")


def test_a_file_of_the_right_name_that_is_no_stack_is_told_of(world: TinyWorld, tmp_path: Path) -> None:
    for content in (b"", b"x" * 100, safetensors.torch.save({"a": torch.zeros(1)})):
        sha = hashlib.sha256(content).hexdigest()
        (tmp_path / f"{sha}.safetensors").write_bytes(content)
        with pytest.raises(PreparedError, match="this is no prepared stack that this version wrote"):
            PreparedStore(tmp_path).load(sha, world.classifier, [])
    with pytest.raises(PreparedError, match=r"64 hexadecimal digits; found '\.\./x'"):
        PreparedStore(tmp_path).load("../x", world.classifier, [])


def test_another_stack_is_refused(world: TinyWorld) -> None:
    content = written(prepare(world.classifier, [AAALinear(kappa=3), SND()], world))
    for others in ([AAALinear(kappa=4), SND()], [SND(), AAALinear(kappa=3)], [AAALinear(kappa=3)], []):
        with pytest.raises(PreparedError, match=r"the prepared stack is one of agents.*; found"):
            read(content, world.classifier, others)
    scaled = Scaled().harden(world.classifier, world)
    with pytest.raises(PreparedError, match="one around another classifier than 'scaled'"):
        read(content, scaled, [AAALinear(kappa=3), SND()])


def test_parameters_stand_in_no_file_in_words(world: TinyWorld) -> None:
    assert b"top secret" not in written(Stack(world.classifier, (Secretive("top secret"),)))


@dataclass(frozen=True)
class Secretive(Defender):
    secret: str


def test_defenders_that_do_not_say_how_are_told(world: TinyWorld) -> None:
    class Silent(Defender):
        def fit(self, classifier: Classifier, splits: Splits) -> Self:
            return self

    with pytest.raises(DefenderError, match=r"Silent overrides fit, so it must override state\(\)"):
        written(prepare(world.classifier, [Silent()], world))
    content = written(prepare(world.classifier, [WideInSilence()], world))
    with pytest.raises(
        DefenderError,
        match=r"WideInSilence hardens into a network of another form, so it must override "
        r"rebuild\(classifier, tensors\): classifier 'RowWise' has .* as 'first'; found nothing",
    ):
        read(content, world.classifier, [WideInSilence()])


def test_what_a_network_holds_besides_its_tensors_is_not_lost_unseen(world: TinyWorld) -> None:
    class Sharper(Defender):
        def harden(self, classifier: Classifier, splits: Splits) -> Classifier:
            module = copy.deepcopy(classifier.module)
            module.register_forward_hook(lambda *_: None)
            module.extra_repr = lambda: "sharper"  # type: ignore[method-assign]
            return Classifier(module, shape=classifier.shape, classes=classifier.classes)

    content = written(prepare(world.classifier, [Sharper()], world))
    with pytest.raises(PreparedError, match="is not the classifier that its harden made"):
        read(content, world.classifier, [Sharper()])


def keep_at_once(folder: Path, found: int, start: Any, told: Any) -> None:
    world = tiny_world(1, "cpu")
    stack = prepare(world.classifier, [Found(found)], world)
    start.wait()
    told.put(PreparedStore(folder).keep("k", stack))


def test_processes_that_keep_a_key_at_once_agree_on_a_whole_file(world: TinyWorld, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    start, told = context.Barrier(4), context.Queue()
    children = [context.Process(target=keep_at_once, args=(tmp_path, n, start, told)) for n in range(4)]
    for child in children:
        child.start()
    shas = {told.get(timeout=60) for _ in children}
    for child in children:
        child.join()
    (sha,) = shas
    assert PreparedStore(tmp_path).find("k") == sha
    wanted = {prepared_sha(prepare(world.classifier, [Found(n)], world)): n for n in range(4)}
    found = wanted[sha]
    assert PreparedStore(tmp_path).load(sha, world.classifier, [Found(found)]).defenders[0].state() == {
        "found": found
    }
    assert not [*tmp_path.glob("*.new"), *tmp_path.glob("*.part")]
