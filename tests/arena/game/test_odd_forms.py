"""What agents hand over in forms that torch has for itself, or take away; what they set for all of torch."""

from __future__ import annotations

import signal
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from torch.nn.modules import module as modules

from arena.classifiers.errors import ClassifierError
from arena.game.blame import DefenderError
from arena.game.shard import play_games
from arena.game.tensors import flaw_of
from arena.modes import in_own_modes, own_modes
from arena.players import Defender, Games, Response, Rows
from arena.rules.moves import Consult, Note, Play, VolleyError
from arena.rules.threat import Threat

THREAT = Threat(epsilon=4 / 16, budget=3)
_torch: Any = torch
functional: Callable[[Tensor], Tensor] = _torch._to_functional_tensor

ODD: dict[str, Callable[[], Tensor]] = {
    "functional": lambda: functional(torch.ones(2)),
    "functional index": lambda: functional(torch.zeros(2, dtype=torch.int64)),
    "zero": lambda: _torch._efficientzerotensor((2,)),
}


@pytest.mark.parametrize("name", ODD)
def test_tensors_that_torch_computes_with_in_another_way_are_no_plain_ones(name: str) -> None:
    assert flaw_of(ODD[name]()) is not None


@pytest.mark.parametrize("form", ["plain", "index", "negative", "inference", "grad", "strided"])
def test_plain_ones_stay_plain(form: str) -> None:
    with torch.inference_mode(form == "inference"):
        made = {
            "index": torch.arange(3),
            "negative": torch._neg_view(torch.ones(3)),
            "grad": torch.ones(3, requires_grad=True) * 2,
            "strided": torch.ones(1).expand(3),
        }.get(form, torch.ones(3))
    assert flaw_of(made) is None


NUMBERS: dict[str, Callable[[int], Tensor]] = {
    "bits": lambda n: torch.zeros(n, dtype=torch.uint8).view(torch.bits8),
    "four bits": lambda n: torch.zeros(n, dtype=torch.uint8).view(torch.uint4),
    "complex": lambda n: torch.zeros(n, dtype=torch.complex64),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_a_note_of_numbers_that_cannot_be_read_is_malformed(worlds: ModuleType, name: str) -> None:
    said = []

    def script(games: Games) -> Play:
        try:
            yield Note("k", NUMBERS[name](len(games)), games.open)
        except VolleyError as error:
            said.append(str(error))

    rows, record = worlds.played(script, threat=THREAT)
    assert rows.reason == ["resigned"] * 2
    assert len(said) == 1 and said[0].startswith(
        "a note's tensor must hold one number for each game [2] on cpu"
    )
    assert not record.note_rows


def _reasons(worlds: ModuleType, script: Any, *defenders: Defender, **options: Any) -> list[Any]:
    try:
        rows, record = worlds.played(script, threat=THREAT, defenders=list(defenders), **options)
    except DefenderError as failure:  # before the first move
        return [["error"] * 2, {str(failure)}]
    said = {str(value) for rows in record.note_rows if rows.key == "error" for value in rows.value}
    return [rows.reason, said]


def _ask(games: Games) -> Play:
    while len(games.open):
        yield from games.ask(games.x0[games.open], games.open)


@pytest.mark.parametrize("field", ["scores", "_declined", "_refused", "_flagged", "_banned"])
def test_a_response_without_a_field_ends_its_games_or_reads_as_not_given(
    worlds: ModuleType, field: str
) -> None:
    class Taking(Defender):
        def watch(self, x: Tensor, rows: Rows, response: Response) -> Response:
            del vars(response)[field]
            return response

    reason, said = _reasons(worlds, _ask, Taking())
    if field == "scores":
        assert reason == ["error"] * 2
        assert said == {"defender Taking: scores must be a plain tensor; found NoneType"}
    else:
        assert reason == ["budget"] * 2


@dataclass(frozen=True, eq=False)
class Remembering(Defender):
    memory: ClassVar[Any] = "game"
    heard: list[Any] = field(default_factory=list)

    def remember(self, x: Tensor, rows: Rows, response: Response) -> None:
        self.heard.append((float(x.max()), rows.game.tolist(), rows.turn.tolist()))


def test_a_defender_further_in_writes_into_nothing_that_an_outer_one_holds(worlds: ModuleType) -> None:
    class Writing(Defender):
        def transform(self, x: Tensor, rows: Rows) -> Tensor:
            sent = x.clone()
            for tensor in (x, rows.game, rows.turn):
                tensor.fill_(9)
            return sent

    outer = Remembering()
    reason, _ = _reasons(worlds, _ask, outer, Writing())
    assert reason == ["budget"] * 2
    assert [h[1:] for h in outer.heard] == [([0, 1], [n, n]) for n in (1, 2, 3)]
    assert all(h[0] <= 1 for h in outer.heard)


def test_a_classifier_that_fails_on_what_is_no_image_is_the_defenders_fault(worlds: ModuleType) -> None:
    class Breaking(Defender):
        def transform(self, x: Tensor, rows: Rows) -> Tensor:
            return x * torch.nan

    of = worlds.classifier()
    plain = of.module.forward

    def strict(x: Tensor) -> Any:
        if not x.isfinite().all():
            raise RuntimeError("not finite")
        return plain(x)

    of.module.forward = strict
    reason, said = _reasons(worlds, _ask, Breaking(), of=of)
    assert reason == ["error"] * 2
    assert len(said) == 1 and said.pop().startswith("Breaking.respond failed with ClassifierError")


# What is set for all of torch and Python


def _turned(module: Any, args: Any, made: Any) -> Any:
    return -made


def test_a_hook_around_every_module_wins_nothing_and_is_gone_afterwards(worlds: ModuleType) -> None:
    def script(games: Games) -> Play:
        modules.register_module_forward_hook(_turned)
        yield from _ask(games)

    assert _reasons(worlds, script)[0] == ["budget"] * 2
    assert not modules._global_forward_hooks
    assert in_own_modes()


def test_a_callers_hooks_are_put_aside_and_stay() -> None:
    handle = modules.register_module_forward_hook(_turned)
    try:
        assert not in_own_modes()
        with own_modes():
            assert torch.nn.Identity()(torch.ones(1)).item() == 1
        assert torch.nn.Identity()(torch.ones(1)).item() == -1
    finally:
        handle.remove()


def test_what_autograd_keeps_is_no_agents_to_decide(worlds: ModuleType) -> None:
    def fail(tensor: Tensor) -> Tensor:
        raise RuntimeError("saved")

    def script(games: Games) -> Play:
        torch.autograd.graph.saved_tensors_hooks(fail, fail).__enter__()
        answers = yield Consult(games.x0, games.open, "gradient")
        assert answers.insight is not None

    rows, _ = worlds.played(script, threat=Threat(epsilon=4 / 16, budget=3, knowledge="weights"))
    assert rows.reason == ["resigned"] * 2
    assert rows.insider_queries.tolist() == [1, 1]
    assert in_own_modes()


def test_warnings_made_errors_make_no_failure_of_the_classifiers(worlds: ModuleType) -> None:
    of = worlds.classifier()
    plain = of.module.forward

    def warning(x: Tensor) -> Any:
        warnings.warn("as ever", UserWarning, stacklevel=1)
        return plain(x)

    def script(games: Games) -> Play:
        warnings.simplefilter("error")
        yield from _ask(games)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        of.module.forward = warning
        assert _reasons(worlds, script, of=of)[0] == ["budget"] * 2
        assert warnings.filters[0][0] == "ignore"


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="a system without timers")
def test_a_timer_rings_for_nobody_else(worlds: ModuleType) -> None:
    def ring(*_: Any) -> None:
        raise TimeoutError("too slow")

    before = signal.getsignal(signal.SIGALRM)

    def script(games: Games) -> Play:
        signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, 1000)
        yield from games.ask(games.x0)
        rings.append(signal.getitimer(signal.ITIMER_REAL)[0])

    rings: list[float] = []
    running = signal.getitimer(signal.ITIMER_REAL)[0] > 0
    try:
        assert _reasons(worlds, script)[0] == ["resigned"] * 2
        assert running or rings == [0.0]
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_recursion_limit_is_the_attackers_alone(worlds: ModuleType) -> None:
    before = sys.getrecursionlimit()
    seen = []

    class Looking(Defender):
        def transform(self, x: Tensor, rows: Rows) -> Tensor:
            seen.append(sys.getrecursionlimit())
            return x

    def script(games: Games) -> Play:
        sys.setrecursionlimit(before + 500)
        yield from games.ask(games.x0)

    referee, _ = worlds.referee([Looking()])
    play_games(worlds.Scripted(script), referee, referee.seat())
    assert set(seen) == {before} and sys.getrecursionlimit() == before


def test_a_network_that_answers_no_plain_tensor_is_blamed_itself(worlds: ModuleType) -> None:
    of = worlds.classifier()
    referee, _ = worlds.referee([worlds.Noise()], of=of)
    plain = of.module.forward
    of.module.forward = lambda x: plain(x).to_sparse()
    with pytest.raises(ClassifierError, match="must answer a plain tensor; found a sparse_coo tensor"):
        play_games(worlds.Scripted(_ask), referee, referee.seat())
