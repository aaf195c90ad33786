"""Every malformed move is rejected whole, with one sentence, and costs nothing."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from arena.game.referee import Referee
from arena.rules.moves import Claim, Consult, Move, Note, Resign, Submit, Volley, VolleyError
from arena.rules.threat import Threat

X = torch.full((3, 1, 2, 2), 0.5)
I = torch.tensor([0, 1, 0])  # noqa: E741
ACCOUNT = torch.tensor([0, 1, 1])


def spoilt(value: float) -> Tensor:
    x = X.clone()
    x[2, 0, 1, 1] = value
    return x


SHAPE = "images must be a tensor [n,1,2,2]; found "
GAMES = "game must be an index of the seat, from 0 to 2 (exclusive)"
IMAGES: dict[str, tuple[Any, Any, str]] = {
    "no tensor": (X.tolist(), I, SHAPE + "list"),
    "numpy": (X.numpy(), I, SHAPE + "ndarray"),
    "nothing": (None, I, SHAPE + "NoneType"),
    "other shape": (torch.zeros(3, 1, 2, 3), I, SHAPE + "[3, 1, 2, 3]"),
    "flat": (X.flatten(1), I, SHAPE + "[3, 4]"),
    "one image": (X[0], I, SHAPE + "[1, 2, 2]"),
    "double": (X.double(), I, "images must be float32; found torch.float64"),
    "half": (X.half(), I, "images must be float32; found torch.float16"),
    "bytes": (X.to(torch.uint8), I, "images must be float32; found torch.uint8"),
    "other device": (X.to("meta"), I, "images must be on device cpu; found meta"),
    "nan": (spoilt(math.nan), I, "images must be finite"),
    "infinite": (spoilt(math.inf), I, "images must be finite"),
    "minus infinite": (spoilt(-math.inf), I, "images must be finite"),
    "above 1": (spoilt(1.0000001), I, "images must lie in [0,1]"),
    "below 0": (spoilt(-1e-9), I, "images must lie in [0,1]"),
    "unknown game": (X, torch.tensor([0, 1, 2]), GAMES),
    "negative game": (X, torch.tensor([0, -1, 1]), GAMES),
    "too few games": (X, I[:2], "game must be int64 [3], one for each image; found torch.int64 [2]"),
    "games of two axes": (
        X,
        I.view(3, 1),
        "game must be int64 [3], one for each image; found torch.int64 [3, 1]",
    ),
    "games of another type": (
        X,
        I.int(),
        "game must be int64 [3], one for each image; found torch.int32 [3]",
    ),
    "mask": (X, I > 0, "game must be int64 [3], one for each image; found torch.bool [3]"),
    "games no tensor": (X, [0, 1, 0], "game must be int64 [3], one for each image; found list"),
    "games elsewhere": (X, I.to("meta"), "game must be on device cpu; found meta"),
}
TOO_LONG = "a volley may hold 8 rows at most (games.max_rows); found 9"

VOLLEYS: dict[str, tuple[Move, str]] = {k: (Volley(x, i), said) for k, (x, i, said) in IMAGES.items()}
VOLLEYS |= {
    "too long": (Volley(X.repeat(3, 1, 1, 1), I.repeat(3)), TOO_LONG),
    "unknown account": (Volley(X, I, torch.tensor([0, 2, 0])), "account must be from 0 to 2 (exclusive)"),
    "negative account": (Volley(X, I, torch.tensor([0, -1, 0])), "account must be from 0 to 2 (exclusive)"),
    "one account": (Volley(X, I, 1), "account must be int64 [3], one for each image; found int"),  # type: ignore[arg-type]
    "account as float": (
        Volley(X, I, ACCOUNT.float()),
        "account must be int64 [3], one for each image; found torch.float32 [3]",
    ),
    "accounts elsewhere": (
        Volley(X, I, ACCOUNT.to("meta")),
        "account must be on device cpu; found meta",
    ),
    "purpose": (Volley(X, I, None, 3), "purpose must be text; found int"),  # type: ignore[arg-type]
}

OTHERS: dict[str, tuple[Any, str]] = {
    f"submit {k}": (Submit(x, i), said) for k, (x, i, said) in IMAGES.items()
}
OTHERS |= {f"claim {k}": (Claim(x, i), said) for k, (x, i, said) in IMAGES.items()}
OTHERS |= {f"consult {k}": (Consult(x, i), said) for k, (x, i, said) in IMAGES.items()}
OTHERS |= {
    "submit twice": (Submit(X, I), "a game may be named once in this move"),
    "claim twice": (Claim(X, I), "a game may be named once in this move"),
    "consult too long": (Consult(X.repeat(3, 1, 1, 1), I.repeat(3)), TOO_LONG),
    "consult what": (
        Consult(X, I, "weights"),  # type: ignore[arg-type]
        'what to consult must be "detector" or "gradient"; found \'weights\'',
    ),
    "consult loss": (
        Consult(X, I, "gradient", "l2"),  # type: ignore[arg-type]
        'a loss must be "margin", "probability-margin", "probability" or "cross-entropy"; found \'l2\'',
    ),
    "consult without detector": (Consult(X, I), "no defender of this stack has a detector"),
    "resign unknown game": (Resign(torch.tensor([0, 2])), GAMES),
    "resign negative game": (Resign(torch.tensor([-1])), GAMES),
    "resign list": (Resign([0]), "game must be a tensor int64 [n]; found list"),  # type: ignore[arg-type]
    "resign mask": (Resign(I > 0), "game must be a tensor int64 [n]; found torch.bool [3]"),
    "resign one": (Resign(torch.tensor(0)), "game must be a tensor int64 [n]; found torch.int64 []"),
    "resign elsewhere": (Resign(I.to("meta")), "game must be on device cpu; found meta"),
    "resign as a win": (
        Resign(I, "hit"),  # type: ignore[arg-type]
        'a reason to resign must be "resigned" or "no-start"; found \'hit\'',
    ),
    "note unknown game": (Note("k", "v", torch.tensor([5])), GAMES),
    "note key": (Note(1, "v", I), "a note's key must be text; found int"),  # type: ignore[arg-type]
    "note value": (Note("k", {"a": 1}, I), "a note's value must be text, a number or a tensor; found dict"),  # type: ignore[arg-type]
    "note of other length": (
        Note("k", torch.zeros(2), I),
        "a note's tensor must hold one number for each game [3] on cpu; found torch.float32 [2] on cpu",
    ),
    "note elsewhere": (
        Note("k", torch.zeros(3, device="meta"), I),
        "a note's tensor must hold one number for each game [3] on cpu; found torch.float32 [3] on meta",
    ),
    "no move": ("ask", "a move is a Volley, Submit, Claim, Resign, Note or Consult; found str"),
    "nothing": (None, "a move is a Volley, Submit, Claim, Resign, Note or Consult; found NoneType"),
    "a class": (Volley, "a move is a Volley, Submit, Claim, Resign, Note or Consult; found type"),
}
ALL = VOLLEYS | OTHERS


def seat(worlds: ModuleType, *defenders: Any, **rules: Any) -> tuple[Referee, Any]:
    threat = Threat(**{"epsilon": "1/16", "budget": 5, "accounts": 2, "knowledge": "weights", **rules})
    found: tuple[Referee, Any] = worlds.referee(defenders, threat=threat, max_rows=8)
    return found


@pytest.mark.parametrize("kind", ALL)
def test_malformed_move_is_rejected_whole_in_one_sentence(worlds: ModuleType, kind: str) -> None:
    move, sentence = ALL[kind]
    referee, record = seat(worlds, worlds.warden("account"))
    referee.serve(Volley(referee.board.x0, torch.arange(2)))
    before, trace = referee.state(), list(referee.oracle._memories[0].trace)
    with pytest.raises(VolleyError, match=f"^{re.escape(sentence)}$"):
        referee.serve(move)
    after = referee.state()
    assert after.left.tolist() == before.left.tolist() == [4, 4]
    assert after.open.tolist() == before.open.tolist()
    assert referee.board.ledger.insider.tolist() == [0, 0]
    assert sum(len(q) for q in record.query_rows) == 2
    assert record.note_rows == []
    assert referee.oracle._memories[0].trace == trace
    referee.serve(Volley(referee.board.x0, torch.arange(2)))
    assert referee.state().left.tolist() == [3, 3]


LATE = ("nan", "infinite", "minus infinite", "above 1", "below 0", "unknown game", "negative game")


@pytest.mark.parametrize("kind", LATE)
def test_flaws_found_on_the_device_are_rejected_before_a_row_is_charged(
    worlds: ModuleType, kind: str
) -> None:
    """An accelerator is asked before its flaws are looked at: release rejects what receive let pass."""
    x, i, sentence = IMAGES[kind]
    referee, record = seat(worlds, accounts=1)
    sound = referee.receive(Volley(X, I))
    pending = replace(sound, flaws=referee.checks.flaws(x, i))
    with pytest.raises(VolleyError, match=f"^{re.escape(sentence)}$"):
        referee.release(pending, referee.oracle.respond(pending.x, pending.rows))
    assert referee.state().left.tolist() == [5, 5]
    assert record.query_rows == []


@pytest.mark.parametrize(
    "move",
    [
        lambda x, i: Volley(x, i),
        lambda x, i: Submit(x, i),
        lambda x, i: Resign(i),
        lambda x, i: Note("k", 1.0, i),
        lambda x, i: Note("k", x.flatten(), i),
        lambda x, i: Consult(x, i, "gradient"),
    ],
)
@pytest.mark.parametrize("rules", [{}, {"accounts": 1}])
def test_a_move_about_nothing_changes_nothing(
    worlds: ModuleType, move: Callable[[Tensor, Tensor], Move], rules: dict[str, Any]
) -> None:
    referee, record = seat(worlds, **rules)
    x, none = referee.board.x0[:0], torch.zeros(0, dtype=torch.int64)
    answers = referee.serve(move(x, none))
    assert answers.open.tolist() == [True, True]
    assert answers.left.tolist() == [5, 5]
    assert len(answers.game) == len(answers.label) == len(answers.answered) == len(answers.refused) == 0
    assert sum(len(q) for q in record.query_rows) == 0


def test_a_volley_of_the_greatest_length_is_answered(worlds: ModuleType) -> None:
    referee, _ = seat(worlds, accounts=1)
    answers = referee.serve(Volley(referee.board.x0.repeat(4, 1, 1, 1), torch.arange(2).repeat(4)))
    assert answers.answered.tolist() == [True] * 8


def test_more_games_than_the_longest_volley_may_be_submitted(worlds: ModuleType) -> None:
    referee, _ = worlds.referee(max_rows=1)
    answers = referee.serve(Submit(referee.board.x0, torch.arange(2)))
    assert answers.open.tolist() == [False, False]


def test_images_with_gradients_are_taken_as_they_are(worlds: ModuleType) -> None:
    referee, record = seat(worlds, accounts=1)
    x = (referee.board.x0 + 1 / 16).requires_grad_(True)
    twice = referee.serve(Volley(x * 1.0, torch.arange(2)))
    assert twice.answered.tolist() == [True, True]
    assert twice.scores is not None
    assert not twice.scores.requires_grad
    gradient = referee.serve(Consult(x * 1.0, torch.arange(2), "gradient")).insight
    assert gradient is not None
    assert not gradient.requires_grad
    referee.serve(Submit(x * 1.0, torch.arange(2)))
    rows = referee.finish()
    assert rows.final.tolist() == x.detach().tolist()
    assert len(record.query_rows[0]) == 2


def test_defender_that_answers_with_gradients_is_cut_off(worlds: ModuleType) -> None:
    weight = torch.tensor(2.0, requires_grad=True)

    class Differentiating(worlds.Flip):  # type: ignore[misc,name-defined]
        def rewrite(self, scores: Tensor, rows: Any) -> Tensor:
            return scores * weight

    referee, _ = worlds.referee([Differentiating()])
    answers = referee.serve(Volley(referee.board.x0, torch.arange(2)))
    assert not answers.scores.requires_grad
    assert referee.finish().vote.tolist() == [0, 0]
