"""Bugs to plant in the Referee, its ledger and its verdicts, which the fuzz has to find."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import PropertyMock, patch

import numpy as np
import torch
from torch import Tensor

from arena.game import referee, stack_oracle, verdicts, waves
from arena.game.board import Board
from arena.game.ledger import Ledger, RowScalars
from arena.game.referee import Referee
from arena.game.stack_oracle import StackOracle
from arena.game.verdicts import Judge
from arena.players.response import Response
from arena.rules.moves import VolleyError
from arena.rules.outcome import labels_of

Bug = Callable[[], AbstractContextManager[Any]]


def _around(owner: Any, name: str, changed: Callable[..., Any]) -> AbstractContextManager[Any]:
    """`owner.name` replaced by `changed(original, *arguments)`."""
    original = getattr(owner, name)

    def wrapped(*args: Any, **more: Any) -> Any:
        return changed(original, *args, **more)

    return patch.object(owner, name, wrapped)


def _scalars(change: Callable[[Ledger, RowScalars], RowScalars]) -> AbstractContextManager[Any]:
    """A ledger that enters other scalars than it is given."""
    return _around(Ledger, "enter", lambda enter, ledger, c: enter(ledger, change(ledger, c)))


@contextmanager
def _labels(rule: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Another rule for labels wherever games are decided."""
    with (
        patch.object(referee, "labels_of", rule),
        patch.object(verdicts, "labels_of", rule),
        patch.object(stack_oracle, "labels_of", rule),
    ):
        yield


def _last_of_ties(scores: Tensor) -> Tensor:
    label = scores.shape[1] - 1 - scores.flip(1).argmax(dim=1)
    return torch.where(labels_of(scores) < 0, -1, label)


def _first_of_equals(scores: Tensor) -> Tensor:
    return torch.where(scores.isnan().any(dim=1), -1, scores.argmax(dim=1))


def one_query_too_many() -> AbstractContextManager[Any]:
    def enter(original: Any, ledger: Ledger, c: RowScalars) -> Any:
        threat = ledger.threat
        ledger.threat = threat.model_copy(update={"budget": threat.budget + 1})
        try:
            return original(ledger, c)
        finally:
            ledger.threat = threat

    return _around(Ledger, "enter", enter)


def rows_after_the_end() -> AbstractContextManager[Any]:
    return patch.object(Ledger, "_not_after_end", lambda ledger, c, ends: np.ones(len(c.game), dtype=bool))


def refused_rows_win() -> AbstractContextManager[Any]:
    return _scalars(lambda ledger, c: replace(c, refused=c.refused & ~c.wins))


def declined_rows_win() -> AbstractContextManager[Any]:
    def given(original: Any, response: Response, flag: str) -> Any:
        return None if flag == "declined" else original(response, flag)

    return _around(Response, "given", given)


def no_tolerance() -> AbstractContextManager[Any]:
    def inside(ledger: Ledger, l2: Any, linf: Any) -> Any:
        return (l2 if ledger.threat.norm == "l2" else linf) <= ledger.threat.epsilon

    return patch.object(Ledger, "inside", inside)


def the_other_norm() -> AbstractContextManager[Any]:
    return _around(Ledger, "inside", lambda inside, ledger, l2, linf: inside(ledger, linf, l2))


def ties_to_the_highest_index() -> AbstractContextManager[Any]:
    return _labels(_last_of_ties)


def equal_scores_are_a_label() -> AbstractContextManager[Any]:
    return _labels(_first_of_equals)


@contextmanager
def marks_one_row_late() -> Iterator[None]:
    def begin(original: Any, ledger: Ledger, threat: Any, games: int, at: Any = ()) -> None:
        original(ledger, threat, games, [a + 1 for a in at])

    def mark(original: Any, judge: Judge, at: int, games: Any) -> None:
        original(judge, max(0, at - 1), games)

    with _around(Ledger, "__init__", begin), _around(Judge, "mark", mark):
        yield


def rows_in_reverse() -> AbstractContextManager[Any]:
    def ranks(game: Tensor) -> Tensor:
        return waves.rank_within(game.flip(0)).flip(0)

    return patch.object(referee, "rank_within", ranks)


def banned_accounts_are_answered() -> AbstractContextManager[Any]:
    def charge(original: Any, ledger: Ledger, *args: Any, **more: Any) -> None:
        original(ledger, *args, **more)
        ledger._has_banned = False

    return _around(Ledger, "_charge", charge)


def the_later_of_equals_is_best() -> AbstractContextManager[Any]:
    def better(
        original: Any, ledger: Ledger, c: RowScalars, candidate: Any, hit: Any, value: Any, **how: Any
    ) -> Any:
        return original(ledger, c, candidate, hit, value - 1e-9 * (1 + c.rank), **how)

    return _around(Ledger, "_better", better)


def hits_do_not_beat_what_is_none() -> AbstractContextManager[Any]:
    def better(
        original: Any, ledger: Ledger, c: RowScalars, candidate: Any, hit: Any, value: Any, **how: Any
    ) -> Any:
        return original(ledger, c, candidate, hit & False, value, **how)

    return _around(Ledger, "_better", better)


def votes_remember() -> AbstractContextManager[Any]:
    return patch.object(StackOracle, "fresh", lambda oracle, x, rows: oracle.again(x, rows))


def refusals_win_votes() -> AbstractContextManager[Any]:
    nothing = PropertyMock(side_effect=lambda: torch.zeros(1, dtype=torch.bool))
    return patch.object(Response, "withheld", nothing)


def asked_again_before_it_is_remembered() -> AbstractContextManager[Any]:
    def release(original: Any, own: Referee, wave: Any, response: Any) -> Any:
        waiting: list[Tensor] = []
        commit, ask_again = own.oracle.commit, own.judge.ask_again

        def ask_then_commit(games: Any) -> None:
            ask_again(games)
            if waiting:
                commit(waiting.pop())

        with (
            patch.object(own.oracle, "commit", waiting.append),
            patch.object(own.judge, "ask_again", ask_then_commit),
        ):
            return original(own, wave, response)

    return _around(Referee, "release", release)


def malformed_volleys_are_charged() -> AbstractContextManager[Any]:
    def receive(original: Any, own: Referee, volley: Any) -> Any:
        try:
            return original(own, volley)
        except VolleyError:
            own.board.ledger.queries[0] += 1
            raise

    return _around(Referee, "receive", receive)


def any_wrong_label_is_the_target() -> AbstractContextManager[Any]:
    def wins(board: Board, label: Any, game: Any) -> Any:
        y = board.label if isinstance(label, Tensor) else board.label.numpy()
        return (label != y[game]) & (label >= 0)

    return patch.object(Board, "wins", wins)


def claims_count_against_facts() -> AbstractContextManager[Any]:
    return patch.object(StackOracle, "answers_are_facts", False)


def the_last_hit_is_the_first() -> AbstractContextManager[Any]:
    def enter_hits(original: Any, ledger: Ledger, game: Any, turn: Any, kept: Any, hit: Any) -> None:
        ledger.hit_at[game[hit]] = 0
        original(ledger, game, turn, kept, hit)

    return _around(Ledger, "_enter_hits", enter_hits)


def lost_votes_have_distances() -> AbstractContextManager[Any]:
    return patch.object(
        Judge, "_distances", lambda judge, games, at=None: judge.board.ledger.distances_of(games, at)
    )


def submitted_images_are_not_quantised() -> AbstractContextManager[Any]:
    def stand_by(original: Any, own: Referee, move: Any) -> Any:
        with patch.object(referee, "quantise", lambda x, how: x):
            return original(own, move)

    return _around(Referee, "_stand_by", stand_by)


def accepted_without_a_hit() -> AbstractContextManager[Any]:
    def accept(ledger: Ledger, games: Any) -> None:
        new = games[ledger.accepted_at[games] == 0]
        ledger.accepted_at[new] = ledger.queries[new]

    return patch.object(Ledger, "accept", accept)


def consultations_are_not_metered() -> AbstractContextManager[Any]:
    def consult(original: Any, own: Referee, move: Any) -> Any:
        before = own.board.ledger.insider.copy()
        answers = original(own, move)
        own.board.ledger.insider = before
        return answers

    return _around(Referee, "consult", consult)


BUGS: tuple[Bug, ...] = (
    one_query_too_many,
    rows_after_the_end,
    refused_rows_win,
    declined_rows_win,
    no_tolerance,
    the_other_norm,
    ties_to_the_highest_index,
    equal_scores_are_a_label,
    marks_one_row_late,
    rows_in_reverse,
    banned_accounts_are_answered,
    the_later_of_equals_is_best,
    hits_do_not_beat_what_is_none,
    votes_remember,
    refusals_win_votes,
    asked_again_before_it_is_remembered,
    malformed_volleys_are_charged,
    any_wrong_label_is_the_target,
    claims_count_against_facts,
    the_last_hit_is_the_first,
    lost_votes_have_distances,
    submitted_images_are_not_quantised,
    accepted_without_a_hit,
    consultations_are_not_metered,
)
