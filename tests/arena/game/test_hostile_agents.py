"""Agents that hand over what is no plain tensor, set what is not theirs, or raise whatever there is: each
ends its own games, and nothing else."""

from __future__ import annotations

import math
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from arena.game.shard import Job, play_shard
from arena.game.stack import Stack
from arena.modes import in_own_modes, modes
from arena.players import Attacker, Defender, Games, Response, Rows
from arena.records.pieces import Piece
from arena.records.reports import GameRows
from arena.rules.moves import Claim, Consult, Note, Play, Resign, Submit, Volley, VolleyError
from arena.rules.threat import Threat


class Close(Tensor):
    """0 away from everything, by the arithmetic of whoever subtracts from it."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = super().__torch_function__(func, types, args, kwargs or {})
        return made * 0 if func in (Tensor.sub, Tensor.__sub__, torch.sub) else made


class Bright(Tensor):
    """Says of itself that it lies in [0,1]."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.aminmax:
            return torch.zeros(()), torch.ones(())
        return super().__torch_function__(func, types, args, kwargs or {})


def hidden(x: Tensor) -> Tensor:
    """A plain tensor whose own attributes stand in for methods."""
    true = x + 0.9
    true.detach = true.clone = lambda *_, **__: x.clamp(0, 1)  # type: ignore[method-assign, assignment]
    return true


def taken_away(x: Tensor) -> Tensor:
    lost = x.clone()
    lost.untyped_storage().resize_(0)
    return lost


NO_IMAGES: dict[str, Callable[[Tensor], object]] = {
    "close": lambda x: (1 - x).as_subclass(Close),
    "bright": lambda x: (x + 5).as_subclass(Bright),
    "parameter": torch.nn.Parameter,
    "sparse": Tensor.to_sparse,
    "nested": lambda x: torch.nested.nested_tensor(list(x)),
    "mkldnn": Tensor.to_mkldnn,
    "hidden": hidden,
    "taken away": taken_away,
    "none": lambda x: None,
    "array": lambda x: x.numpy(),
    "meta": lambda x: x.to("meta"),
    "float64": Tensor.double,
    "not finite": lambda x: x * math.nan,
}


@pytest.mark.parametrize("kind", NO_IMAGES)
@pytest.mark.parametrize("move", [Volley, Submit, Claim, Consult])
def test_what_is_no_plain_tensor_is_rejected_and_charges_nothing(
    worlds: ModuleType, kind: str, move: Any
) -> None:
    said = []

    def script(games: Games) -> Play:
        for bad in (move(NO_IMAGES[kind](games.x0), games.open), Volley(games.x0, NO_IMAGES[kind](games.x0))):  # type: ignore[arg-type]
            try:
                yield bad
            except VolleyError as error:
                said.append(str(error))

    threat = Threat(epsilon=4 / 16, budget=10, objective="submit", knowledge="weights")
    rows, record = worlds.played(script, threat=threat)
    assert len(said) == 2 and not any("\n" in sentence for sentence in said), said
    assert rows.queries.tolist() == rows.insider_queries.tolist() == [0, 0]
    assert rows.reason == ["resigned"] * 2
    assert not record.query_rows
    assert not rows.base.any() and not rows.wrong.any()


def test_what_was_taken_in_is_a_copy(worlds: ModuleType) -> None:
    """An attacker that keeps its tensors and writes into them later changes nothing."""
    sent, index = [], []

    def script(games: Games) -> Play:
        x, i = games.x0.clone(), games.open.clone()
        x[:, 0, 0, 0] += 1 / 16
        sent.append(x.clone())
        yield Volley(x, i)
        x.fill_(2.0)
        i.fill_(-7)
        y, j = games.x0.clone(), torch.tensor([1])
        y[:, 0, 1, 1] -= 1 / 16
        index.append(y[1].clone())
        yield Submit(y[1:], j)
        y.fill_(2.0)
        j.fill_(0)

    rows, _ = worlds.played(script, threat=Threat(epsilon=4 / 16, budget=10, objective="submit"))
    assert torch.equal(torch.from_numpy(rows.final[0]), sent[0][0])
    assert torch.equal(torch.from_numpy(rows.final[1]), index[0])


def test_a_changed_threat_is_the_attackers_own(worlds: ModuleType) -> None:
    def script(games: Games) -> Play:
        games.threat.__dict__["budget"] = 60
        games.threat.resources.__dict__["images"] = 60
        while len(games.open):
            yield from games.ask(games.x0)

    threat = Threat(epsilon=4 / 16, budget=3)
    rows, _ = worlds.played(script, threat=threat)
    assert rows.queries.tolist() == [3, 3]
    assert (threat.budget, threat.resources.images) == (3, 0)


# What is set around a move


class Doubling(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        return made * 2 if isinstance(made, Tensor) and made.is_floating_point() else made


def _set(setter: Callable[[Any], Any], value: Any) -> Callable[[], None]:
    return lambda: setter(value)


SETTERS: dict[str, Callable[[], Any]] = {
    "float64": _set(torch.set_default_dtype, torch.float64),
    "threads": _set(torch.set_num_threads, 2),
    "mkldnn": _set(torch._C._set_mkldnn_enabled, False),  # type: ignore[attr-defined]
    "medium": _set(torch.set_float32_matmul_precision, "medium"),
    "no gradients": _set(torch.set_grad_enabled, False),
    "inference": lambda: torch.inference_mode().__enter__(),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16).__enter__(),
    "device": _set(torch.set_default_device, "meta"),
    "functions": lambda: Doubling().__enter__(),
    "deterministic": _set(torch.use_deterministic_algorithms, True),
    "subnormals": _set(torch.set_flush_denormal, True),
    "numpy": lambda: np.seterr(all="raise"),
    "seed": lambda: (torch.manual_seed(0), np.random.seed(0)),  # noqa: NPY002
    "folder": _set(os.chdir, "/"),
    "environment": lambda: os.environ.update(ARENA_TEST="x"),
    "recursion": _set(sys.setrecursionlimit, 5000),
    "warnings": lambda: warnings.simplefilter("error"),
    "output": lambda: setattr(sys, "stdout", None),
}


def surroundings() -> list[Any]:
    numpy = np.random.get_state()  # noqa: NPY002
    return [
        modes(),
        torch.get_rng_state().tolist(),
        numpy[1].tolist(),  # type: ignore[union-attr]
        os.getcwd(),  # noqa: PTH109
        dict(os.environ),
        sys.getrecursionlimit(),
        list(warnings.filters),
        sys.stdout,
    ]


@dataclass(frozen=True, eq=False)
class Setting(Attacker):
    """Sets something before its second volley, and leaves it so."""

    setter: Callable[[], Any] = lambda: None

    def play(self, games: Games) -> Play:
        yield Volley(games.x0, games.open.cpu())
        x, i = games.x0.clone(), games.open
        self.setter()
        yield Volley(x, i)
        yield Volley(x, i)


@dataclass(frozen=True, eq=False)
class SettingDefender(Defender):
    setter: Callable[[], Any] = lambda: None

    def transform(self, x: Tensor, rows: Rows) -> Tensor:
        self.setter()
        return x


class Kept:
    def __init__(self) -> None:
        self.pieces: list[Piece] = []

    def record(self, piece: Piece) -> None:
        self.pieces.append(piece)

    @property
    def games(self) -> GameRows:
        games = self.pieces[-1].games
        assert games is not None
        return games

    @property
    def margins(self) -> list[float]:
        rows = [rows for piece in self.pieces for rows in piece.queries]
        return [value for row in rows for value in row.margin.tolist()]


def shard(worlds: ModuleType, attacker: Attacker, *defenders: Defender) -> Kept:
    kept, of = Kept(), worlds.classifier()
    x0 = worlds.images([(8, 4, 8, 4), (4, 12, 4, 8)])
    job = Job(
        stack=Stack(of, defenders),
        openings=worlds.deal(x0, worlds.truth(x0, of)),
        threat=Threat(epsilon=4 / 16, budget=3),
        defender_seed=0,
        attacker=attacker,
        attacker_seed=0,
    )
    play_shard(job, kept)
    return kept


@pytest.mark.parametrize("name", SETTERS)
@pytest.mark.parametrize("side", ["attacker", "defender"])
def test_what_an_agent_sets_reaches_no_answer_and_no_other(worlds: ModuleType, name: str, side: str) -> None:
    expected = shard(worlds, Setting(), SettingDefender())
    before = surroundings()
    assert in_own_modes()
    if side == "attacker":
        played = shard(worlds, Setting(SETTERS[name]), SettingDefender())
    else:
        played = shard(worlds, Setting(), SettingDefender(SETTERS[name]))
    assert surroundings() == before
    # A defender's own transform may well fail in what it set itself; no attacker's move does.
    if "error" not in played.games.reason:
        assert played.margins == expected.margins
        assert played.games.queries.tolist() == [3, 3]
    else:
        assert side == "defender"
    assert shard(worlds, Setting(), SettingDefender()).margins == expected.margins


# Defenders


@dataclass(frozen=True, eq=False)
class Writing(Defender):
    """Writes into all that it is given, and keeps what it answered."""

    kept: list[Tensor]
    memory: ClassVar[Any] = "game"

    def transform(self, x: Tensor, rows: Rows) -> Tensor:
        sent = x.clone()
        x.fill_(0.5)
        for tensor in (rows.game, rows.turn, rows.account, rows.key):
            tensor.fill_(0)
        return sent

    def watch(self, x: Tensor, rows: Rows, response: Response) -> Response:
        self.kept.append(response.scores)
        return response

    def remember(self, x: Tensor, rows: Rows, response: Response) -> None:
        for scores in self.kept:
            scores.fill_(9.0)


def test_a_defender_that_writes_into_its_rows_corrupts_no_log(worlds: ModuleType) -> None:
    plain, written = shard(worlds, Setting()), shard(worlds, Setting(), Writing([]))
    assert written.margins == plain.margins
    own, others = ([row for piece in kept.pieces for row in piece.queries] for kept in (written, plain))
    for mine, theirs in zip(own, others, strict=True):
        for name in ("game", "turn", "account", "label", "l2", "linf"):
            assert getattr(mine, name).tolist() == getattr(theirs, name).tolist(), name


def test_an_attacker_cannot_write_into_what_a_defender_remembers(worlds: ModuleType) -> None:
    heard: list[Tensor] = []

    @dataclass(frozen=True, eq=False)
    class Keeping(Defender):
        memory: ClassVar[Any] = "game"

        def remember(self, x: Tensor, rows: Rows, response: Response) -> None:
            heard.append(response.scores)

    def script(games: Games) -> Play:
        answers = yield from games.ask(games.x0)
        assert answers.scores is not None
        before = [scores.clone() for scores in heard]
        answers.scores.fill_(-5.0)
        assert all(torch.equal(a, b) for a, b in zip(heard, before, strict=True))

    rows = shard(worlds, worlds.Scripted(script), Keeping()).games
    assert rows.reason == ["resigned"] * 2


def test_what_a_defender_sets_on_itself_ends_with_the_shard(worlds: ModuleType) -> None:
    @dataclass(frozen=True)
    class Counting(Defender):
        def rewrite(self, scores: Tensor, rows: Rows) -> Tensor:
            seen = getattr(self, "_seen", 0) + 1
            object.__setattr__(self, "_seen", seen)
            return scores + seen * torch.arange(scores.shape[1])

    own = Counting()
    first, second = shard(worlds, Setting(), own), shard(worlds, Setting(), own)
    assert first.margins == second.margins and len(set(first.margins)) > 1


WRONG: dict[str, Callable[[Response], Any]] = {
    "none": lambda r: None,
    "few classes": lambda r: replace(r, scores=r.scores[:, :2]),
    "few rows": lambda r: replace(r, scores=r.scores[:1]),
    "float64": lambda r: replace(r, scores=r.scores.double()),
    "sparse": lambda r: replace(r, scores=r.scores.to_sparse()),
    "subclass": lambda r: replace(r, scores=r.scores.as_subclass(Close)),
    "flag": lambda r: replace(r, refused=torch.ones(len(r.scores))),
    "no scores": lambda r: replace(r, scores=None),
}
RAISED = (RuntimeError("x"), SystemExit(0), GeneratorExit(), KeyError("x"), MemoryError(), VolleyError("x"))


@dataclass(frozen=True, eq=False)
class Failing(Defender):
    """Fails in one of its methods, in one way."""

    where: str
    error: BaseException = RAISED[0]
    wrong: Callable[[Response], Any] | None = None
    memory: ClassVar[Any] = "game"

    def start(self, shape: Any, accounts: int, device: torch.device) -> Any:
        self._fail("start")

    def respond(self, x: Tensor, rows: Rows, inner: Any) -> Response:
        self._fail("respond")
        response = inner(x, rows)
        return response if self.wrong is None else self.wrong(response)  # type: ignore[no-any-return]

    def remember(self, x: Tensor, rows: Rows, response: Response) -> None:
        self._fail("remember")

    def _fail(self, where: str) -> None:
        if where == self.where:
            raise self.error


@pytest.mark.parametrize("error", RAISED, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("where", ["start", "respond", "remember"])
def test_whatever_a_defender_raises_ends_its_games_in_one_sentence(
    worlds: ModuleType, where: str, error: BaseException
) -> None:
    _failed(
        shard(worlds, Setting(), Failing(where, error)), f"Failing.{where} failed with {type(error).__name__}"
    )


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("place", ["alone", "outer", "inner"])
def test_an_answer_of_another_form_ends_its_games_in_one_sentence(
    worlds: ModuleType, wrong: str, place: str
) -> None:
    stack = {
        "alone": (Failing("", wrong=WRONG[wrong]),),
        "outer": (Failing("", wrong=WRONG[wrong]), worlds.Noise()),
        "inner": (worlds.Noise(), Failing("", wrong=WRONG[wrong])),
    }[place]
    _failed(shard(worlds, Setting(), *stack), "Failing")


def _failed(kept: Kept, said: str) -> None:
    assert kept.games.reason == ["error", "error"]
    assert not kept.games.wrong.any() and not kept.games.base.any() and not kept.games.answered.any()
    notes = [rows for piece in kept.pieces for rows in piece.notes if rows.key == "error"]
    sentences = {str(value) for rows in notes for value in rows.value}
    assert len(sentences) == 1 and said in (sentence := sentences.pop()) and "\n" not in sentence


ASKED: dict[str, Callable[[Tensor, Rows], tuple[Any, Any]]] = {
    "no image": lambda x, rows: (None, rows),
    "float64": lambda x, rows: (x.double(), rows),
    "too few rows": lambda x, rows: (x, rows[:1]),
    "no rows": lambda x, rows: (x, None),
    "another size": lambda x, rows: (x[:, :, :1], rows),
}


@pytest.mark.parametrize("asked", ASKED)
def test_a_question_of_another_form_is_the_defenders_fault(worlds: ModuleType, asked: str) -> None:
    class Asking(Defender):
        def respond(self, x: Tensor, rows: Rows, inner: Any) -> Response:
            response: Response = inner(*ASKED[asked](x, rows))
            return response

    _failed(shard(worlds, Setting(), Asking()), "Asking")


# Attackers


def deep() -> None:
    deep()


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError


LAST: dict[str, Callable[[Games], Any]] = {
    "mute": lambda games: Mute(),
    "generator exit": lambda games: GeneratorExit(),
    "exit": lambda games: SystemExit(0),
    "no move": lambda games: 5,
    "huge number": lambda games: Note("k", 10**400, games.open),
    "larger than text": lambda games: Note("k", 10**5000, games.open),
    "book": lambda games: Note("k", "x" * 10**6, games.open),
    "long key": lambda games: Note("k" * 101, 1.0, games.open),
    "half a pair": lambda games: Note("k", "\ud800", games.open),
    "nul": lambda games: Note("k", "a\0b", games.open),
    "long purpose": lambda games: Volley(games.x0, games.open, purpose="p" * 10**6),
    "many games": lambda games: Resign(torch.zeros(10**6, dtype=torch.int64)),
    "many copies": lambda games: Submit(games.x0[:1].expand(10**6, -1, -1, -1), torch.zeros(10**6).long()),
    "emptied": lambda games: emptied(Volley(games.x0, games.open)),
    "own volley": lambda games: type("Own", (Volley,), {})(games.x0, games.open),
}


def emptied(move: Any) -> Any:
    move.__dict__.clear()
    return move


@pytest.mark.parametrize("name", LAST)
def test_whatever_an_attacker_ends_with_ends_its_games_in_one_line(worlds: ModuleType, name: str) -> None:
    def script(games: Games) -> Play:
        yield Volley(games.x0, games.open)
        last = LAST[name](games)
        if isinstance(last, BaseException):
            raise last
        yield last

    kept = shard(worlds, worlds.Scripted(script))
    assert kept.games.reason == ["error", "error"]
    assert kept.games.queries.tolist() == [1, 1]
    (note,) = [rows for piece in kept.pieces for rows in piece.notes]
    assert "\n" not in str(note.value[0]) and len(str(note.value[0])) < 1000


def test_an_attacker_that_will_not_end_is_left(worlds: ModuleType) -> None:
    def script(games: Games) -> Play:
        try:
            while True:
                yield Volley(games.x0, games.open)
        except GeneratorExit:
            raise SystemExit(0) from None

    assert shard(worlds, worlds.Scripted(script)).games.reason == ["budget", "budget"]


def test_a_plain_interrupt_is_the_users(worlds: ModuleType) -> None:
    def script(games: Games) -> Play:
        yield Volley(games.x0, games.open)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shard(worlds, worlds.Scripted(script))


def test_a_classifier_that_fails_is_no_agents_failure(worlds: ModuleType) -> None:
    from arena.classifiers import ClassifierError

    def script(games: Games) -> Play:
        yield Volley(games.x0, games.open)
        of.module.forward = failing
        yield Volley(games.x0, games.open)

    def failing(x: Tensor) -> Tensor:
        raise SystemExit(0)

    of = worlds.classifier()
    referee, _ = worlds.referee([worlds.Noise()], of=of)
    from arena.game.shard import play_games

    with pytest.raises(ClassifierError, match=r"failed with SystemExit: 0"):
        play_games(worlds.Scripted(script), referee, referee.seat())
