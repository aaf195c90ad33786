"""Random search: keep a random step whenever the loss falls."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor

from agents.attackers.parts.choices import ChoicesAhead
from agents.attackers.parts.claims import THETA, Standing, in_doubt, repeats_for, settle
from arena.players import Answers, Asking, Attacker, Games, Loss, Needs, Play

Propose: TypeAlias = Callable[[int, Tensor, Tensor], Tensor]
"""`propose(t, x, i)`: candidates [n,C,H,W] at step t (from 0) from the incumbents `x` of games `i` [n]."""

Accept: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
"""`accept(new, best, i)`: [n] bool, whether candidates replace the incumbents of games `i` [n], given the
losses of both; a loss is +inf if no answer came."""


@dataclass(frozen=True)
class RandomSearch(Attacker):
    """Random search with Gaussian steps (slides to Qin et al., Random Noise Defense, NeurIPS 2021).

    Eq. 5 and 6: x <- Proj(x + eta s) with s = 1[f(x + mu u) < f(x)] mu u and u ~ N(0, I). Here eta = 1, and
    the projected x + mu u is asked, so that the answer to an accepted candidate is f of the next x.

    Attributes:
        mu: length of a step per pixel.
        loss: f, to be minimised.
        refresh_every: ask f(x) again every so many steps; 0: never. With 1 it is the search of eq. 15, in
            which both values of a comparison carry fresh noise, at two queries a step.
    """

    mu: float = 0.01
    loss: Loss = "margin"
    refresh_every: int = 0

    needs = Needs(feedback="scores", objectives=("first", "submit"))

    def __post_init__(self) -> None:
        if not self.mu > 0:
            raise ValueError(f"mu must be positive; found {self.mu}")
        check_period("refresh_every", self.refresh_every)

    def play(self, games: Games) -> Play:
        shape = games.x0.shape[1:]

        def gaussian(first: int, steps: int, i: Tensor) -> tuple[Tensor]:
            return (games.normal((steps, *shape), i).transpose(0, 1),)

        ahead = ChoicesAhead(games, max(1, 4096 // shape.numel()), gaussian)

        def propose(t: int, x: Tensor, i: Tensor) -> Tensor:
            (u,) = ahead.at(t, i)
            return games.project(x + self.mu * u, i)

        yield from search(
            games, games.x0.clone(), propose, falls, loss=self.loss, refresh_every=self.refresh_every
        )


def falls(new: Tensor, best: Tensor, i: Tensor) -> Tensor:
    """Accept if the loss falls."""
    return new < best


def search(
    games: Games,
    x: Tensor,
    propose: Propose,
    accept: Accept,
    *,
    loss: Loss,
    refresh_every: int = 0,
    prepare: Callable[[], Play] | None = None,
) -> Play:
    """Random search from `x` [G,C,H,W], which becomes the incumbent and is changed in place.

    It asks one query for the start, one for each step, and one more for the incumbent itself every
    `refresh_every` steps (0: never). Where answers are facts, an incumbent that is a hit is submitted. Where
    they are not, it is repeated, and the mean of all its losses becomes the value to beat; the search goes on
    until repeats show that it is wrong often enough (`parts.claims`), and stands by the most believed one.
    What `prepare` asks comes between the start and the first step.
    """
    best = games.x0.new_full((len(games),), torch.inf)
    doubt = Doubt(games, loss)

    def ask_incumbents(purpose: str) -> Play:
        if len(i := games.open):
            answers = yield from games.ask(x[i], i, purpose)
            best[i] = torch.where(answers.answered, games.loss(answers, loss), best[i])
            yield from freeze(games, x, answers)
            yield from doubt.test(x, best, answers)

    yield from ask_incumbents("start")
    if prepare is not None:
        yield from prepare()
    for t in itertools.count():
        if refresh_every and t and t % refresh_every == 0:
            yield from ask_incumbents("refresh")
        if not len(i := games.open):
            return
        incumbent, bar = x.index_select(0, i), best[i]
        candidate = propose(t, incumbent, i)
        answers = yield from games.ask(candidate, i, "search")
        new = games.loss(answers, loss)
        accepted = accept(new, bar, i)
        x[i] = torch.where(accepted.view(-1, 1, 1, 1), candidate, incumbent)
        best[i] = torch.where(accepted, new, bar)
        yield from freeze(games, x, answers, accepted)
        yield from doubt.test(x, best, answers, accepted)


class Doubt:
    """Tests incumbents that were answered wrong by a service whose answers are no facts.

    Attributes:
        untested: [G] bool, the incumbent was answered wrong and not repeated yet.
    """

    def __init__(self, games: Games, loss: Loss) -> None:
        self.games, self.loss = games, loss
        self.untested = torch.zeros_like(games.label, dtype=torch.bool)

    def test(self, x: Tensor, best: Tensor, answers: Answers, accepted: Tensor | None = None) -> Asking:
        """Repeat the untested incumbents of `x` [G,C,H,W] where that is affordable.

        Their values in `best` [G] become the means of all their losses. `answers` are the last ones, of at
        most one row a game; those `accepted` (None: all answered) are the incumbents'.
        """
        games = self.games
        if not in_doubt(games):
            return games.state
        new, game = answers.answered if accepted is None else accepted, answers.game
        self.untested[game] = torch.where(new, games.wrong(answers), self.untested[game])
        standing, i = Standing.at(games), games.open
        i = i[self.untested[i] & standing.affordable(games, i)]
        if not len(i):
            return games.state
        self.untested[i] = False
        loss, most = partial(games.loss, kind=self.loss), repeats_for(THETA)
        found = yield from standing.repeat(games, x[i], i, most, loss)
        best[i] = (best[i] + found.loss) / (1 + found.answered)
        return (yield from settle(games, x[i], i, found, best[i]))


def freeze(games: Games, x: Tensor, answers: Answers, accepted: Tensor | None = None) -> Asking:
    """Note where `answers` were hits that the attacker accepted (all if None); submit them under `submit` if
    answers are facts.

    `x` [G,C,H,W] are the incumbents, `answers` the last ones, of at most one row a game.
    """
    if games.threat.objective == "first" and len(games.open) == len(answers.game):
        return games.state  # no game was closed, so there was no hit
    hit = games.wrong(answers)
    if accepted is not None:
        hit &= accepted
    won = answers.game[hit.nonzero().squeeze(1)]
    yield from games.note("accepted", 1.0, won)
    if games.threat.objective == "submit" and games.answers_are_facts:
        yield from games.submit(x[won], won)
    return games.state


def check_period(name: str, value: int) -> None:
    """Raises ValueError unless `value` is a period: a whole number, 0 for never."""
    if value < 0:
        raise ValueError(f"{name} must be 0 (never) or a positive number of steps; found {value}")
